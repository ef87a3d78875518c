// Run by step-down.sh with `mongosh --nodb`. Authenticates as the cluster itself; the key is read here and is never an argument.
const key = fs.readFileSync("/run/mongodb/keyfile", "utf8").replace(/\s+/g, "");
const tls = process.env.TLS === "1" ? `&tls=true&tlsCAFile=${encodeURIComponent(process.env.TLS_CA)}` : "";
const server = new Mongo(
  `mongodb://__system:${encodeURIComponent(key)}@localhost:${process.env.PORT}/?directConnection=true` +
    `&authSource=local&authMechanism=SCRAM-SHA-256&serverSelectionTimeoutMS=3000${tls}`,
);
const answer = server.getDB("admin").runCommand({
  replSetStepDown: Number(process.env.STEP_DOWN_SECONDS) + 30,
  secondaryCatchUpPeriodSecs: Math.max(1, Number(process.env.STEP_DOWN_SECONDS) - 5),
});
print(`preStop: ${answer.ok ? "stepped down" : answer.errmsg}`);
