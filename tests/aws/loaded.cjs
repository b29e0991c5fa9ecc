// Required before a command: says at its end how many modules of the AWS SDK were loaded.
process.on("exit", () => {
  const count = Object.keys(require.cache).filter((file) => file.includes("@aws-sdk")).length;
  process.stderr.write(`aws-sdk modules: ${count}\n`);
});
