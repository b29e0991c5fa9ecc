export { deployCommand } from "./deploy-command.ts";
export { scaleWorkersCommand } from "./scale-workers-command.ts";
