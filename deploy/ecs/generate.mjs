#!/usr/bin/env node
// Bare task definitions, for people with tooling of their own, from the templates: the same containers, for
// `aws ecs register-task-definition`. What differs from account to account is a variable: `envsubst < worker.json`.
//
//   node deploy/ecs/generate.mjs            writes the files
//   node deploy/ecs/generate.mjs --check    fails where a file is not what it would write
import { readFileSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";

const require = createRequire(new URL("../../packages/protocol/package.json", import.meta.url));
const { parse } = require("yaml");

const SOURCES = [
  ["fargate-private.yaml", "fargate", ["Scheduler", "Worker", "Controller"]],
  ["ec2-efs.yaml", "ec2", ["Scheduler", "Worker", "Controller", "Notebook"]],
];

/** What the template knows and a file cannot: parameters and resources by name. Others are the parameters' defaults. */
const VARIABLES = {
  Image: "${IMAGE}",
  NotebookImage: "${NOTEBOOK_IMAGE}",
  Cluster: "${CLUSTER}",
  FileSystem: "${FILE_SYSTEM_ID}",
  SharedFiles: "${ACCESS_POINT_ID}",
  "ExecutionRole.Arn": "${EXECUTION_ROLE_ARN}",
  "TaskRole.Arn": "${TASK_ROLE_ARN}",
  "ControllerRole.Arn": "${CONTROLLER_ROLE_ARN}",
  "AWS::Region": "${AWS_REGION}",
  "AWS::StackName": "dask",
};
/** Where the scheduler is, in the template a name in its namespace. */
const SCHEDULER = /^dask-scheduler\.\$\{Namespace\}:8786$/;
/** Names that are more than their first letter in small. */
const NAMES = { EFSVolumeConfiguration: "efsVolumeConfiguration", FilesystemId: "fileSystemId", IAM: "iam" };
/** Texts in a template's parameters, numbers in the API; at the top level both are texts. */
const NUMBERS = new Set(["containerPort", "sizeInGiB", "stopTimeout"]);

/** Short tags as what they stand for. */
const customTags = ["Ref", "Condition", "Sub", "GetAtt", "If", "Equals", "Not", "And", "Join", "Split", "Select"]
  .concat(["Cidr", "GetAZs"])
  .flatMap((name) => {
    const key = name === "Ref" || name === "Condition" ? name : `Fn::${name}`;
    const value = (content) => ({ [key]: name === "GetAtt" ? content.split(".") : content });
    return [
      { tag: `!${name}`, resolve: (content) => value(content) },
      { tag: `!${name}`, collection: "seq", resolve: (sequence) => value(sequence.toJSON()) },
    ];
  });

function read(file) {
  // Tags inside tags: a sequence's toJSON keeps them, as their own resolve has run before.
  return parse(readFileSync(new URL(`../cloudformation/${file}`, import.meta.url), "utf8"), { customTags });
}

/** A value with nothing left to look up; undefined where a condition leaves it out. */
function resolve(value, template) {
  if (Array.isArray(value)) return value.map((one) => resolve(one, template)).filter((one) => one !== undefined);
  if (value === null || typeof value !== "object") return value;
  if ("Ref" in value) return reference(value.Ref, template);
  if ("Fn::GetAtt" in value) return reference(value["Fn::GetAtt"].join("."), template);
  if ("Fn::Sub" in value) {
    const text = value["Fn::Sub"];
    if (SCHEDULER.test(text)) return "${SCHEDULER_ADDRESS}";
    return text.replaceAll(/\$\{([\w:.]+)\}/g, (_, name) => reference(name, template));
  }
  // Every condition of the templates is false where all parameters are at their defaults.
  if ("Fn::If" in value) return resolve(value["Fn::If"][2], template);
  return Object.fromEntries(
    Object.entries(value)
      .map(([key, one]) => [key, resolve(one, template)])
      .filter(([, one]) => one !== undefined),
  );
}

function reference(name, template) {
  if (name === "AWS::NoValue") return undefined;
  if (name in VARIABLES) return VARIABLES[name];
  // A parameter is a text, whatever its type.
  if (name in template.Parameters) return String(template.Parameters[name].Default);
  // A log group, by its name.
  return resolve(template.Resources[name].Properties.LogGroupName, template);
}

/** Property names of CloudFormation as the API has them. */
function apiNames(value, inOptions = false) {
  if (Array.isArray(value)) return value.map((one) => apiNames(one));
  if (value === null || typeof value !== "object") return value;
  return Object.fromEntries(
    Object.entries(value).map(([key, one]) => {
      const name = inOptions ? key : (NAMES[key] ?? key[0].toLowerCase() + key.slice(1));
      const number = NUMBERS.has(name) || (name === "memory" && "image" in lowered(value));
      return [name, number ? Number(one) : apiNames(one, name === "options")];
    }),
  );
}

const lowered = (value) => Object.fromEntries(Object.keys(value).map((key) => [key.toLowerCase(), true]));

function definition(template, role) {
  const made = apiNames(resolve(template.Resources[`${role}Task`].Properties, template));
  return { ...made, cpu: String(made.cpu), memory: String(made.memory) };
}

let stale = 0;
for (const [file, prefix, roles] of SOURCES) {
  const template = read(file);
  for (const role of roles) {
    const target = new URL(`${prefix}-${role.toLowerCase()}.json`, import.meta.url);
    const text = `${JSON.stringify(definition(template, role), undefined, 2)}\n`;
    if (!process.argv.includes("--check")) writeFileSync(target, text);
    else if (JSON.stringify(JSON.parse(readOr(target))) !== JSON.stringify(JSON.parse(text))) {
      stale++;
      console.error(`${target.pathname} is not what generate.mjs writes`);
    }
  }
}
process.exitCode = stale === 0 ? 0 : 1;

function readOr(file) {
  try {
    return readFileSync(file, "utf8");
  } catch {
    return "null";
  }
}
