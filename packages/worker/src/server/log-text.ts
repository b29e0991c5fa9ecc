/** A text that a Python child has formatted already, without the time, logger and level in front of it. */
export function plainLogText(text: string): string {
  return text.replace(/^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} - \S+ - [A-Z]+ - /, "");
}
