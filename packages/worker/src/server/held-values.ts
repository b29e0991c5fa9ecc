/**
 * Values that must not leave the executor yet. A task that was freed keeps running, and the executor reads its
 * dependencies only when a thread takes it up; stock has them in hand from the moment in which it starts the task
 * (Worker.execute). So a drop of a dependency waits until the tasks that use it have ended.
 */
import { type Key, keyId } from "@dask-ts/protocol";

export class HeldValues {
  /** Tasks given to the executor that use the value, by key id. */
  readonly #uses = new Map<string, number>();
  /** Values to drop when nobody uses them any more. */
  readonly #late = new Map<string, Key>();

  /** A task with these dependencies goes to the executor. */
  use(dependencies: readonly string[]): void {
    for (const id of dependencies) this.#uses.set(id, (this.#uses.get(id) ?? 0) + 1);
  }

  /** The task has ended; returns what can be dropped now. */
  release(dependencies: readonly string[]): Key[] {
    const free: Key[] = [];
    for (const id of dependencies) {
      const uses = (this.#uses.get(id) ?? 0) - 1;
      if (uses > 0) {
        this.#uses.set(id, uses);
        continue;
      }
      this.#uses.delete(id);
      const key = this.#late.get(id);
      if (key !== undefined && this.#late.delete(id)) free.push(key);
    }
    return free;
  }

  /** Of the values to drop, those that nobody uses; the others follow by {@link release}. */
  droppable(keys: readonly Key[]): readonly Key[] {
    if (this.#uses.size === 0) return keys;
    return keys.filter((key) => {
      const id = keyId(key);
      if (!this.#uses.has(id)) return true;
      this.#late.set(id, key);
      return false;
    });
  }

  /** A value is about to be stored under this key again: the drop that waits meant the one before. */
  store(key: Key): void {
    if (this.#late.size > 0) this.#late.delete(keyId(key));
  }
}
