/** The event under way: its cause and its time. */
import type { Context } from "./context.ts";

/** Begins an event. */
export function beginEvent(ctx: Context, stimulusId: string, now: number): void {
  ctx.stimulusId = stimulusId;
  ctx.now = now;
}

/** Another cause within the same event. */
export function setStimulus(ctx: Context, stimulusId: string): void {
  ctx.stimulusId = stimulusId;
}
