// What users of the JavaScript client do: `client.js KUBECONFIG NAME` does one thing and prints it as JSON.

import { Attach, CoreV1Api, Exec, KubeConfig, Log, Watch } from "@kubernetes/client-node";
import { createHash } from "node:crypto";
import { PassThrough, Readable } from "node:stream";
import { buffer } from "node:stream/consumers";

const [, , file, name] = process.argv;
const config = new KubeConfig();
config.loadFromFile(file);

// Runs a command; the status comes by a callback, and the outputs may still be on their way then.
async function run(command, stdin = null) {
  const stdout = new PassThrough();
  const output = buffer(stdout);
  const status = await new Promise((resolve, reject) => {
    new Exec(config)
      .exec("default", "demo", "main", command, stdout, new PassThrough().resume(), stdin, false, resolve)
      .catch(reject);
  });
  stdout.end();
  return { status, output: await output };
}

const sum = (bytes) => createHash("sha256").update(bytes).digest("hex");
const code = (status) => status.details?.causes?.find((cause) => cause.reason === "ExitCode")?.message;

const actions = {
  async objects() {
    const core = config.makeApiClient(CoreV1Api);
    const pods = await core.listNamespacedPod({ namespace: "default", labelSelector: "app=demo" });
    const nodes = await core.listNode();
    return { pods: pods.items.map((pod) => pod.metadata.name), nodes: nodes.items.map((node) => node.metadata.name) };
  },
  async exec() {
    const failed = await run(["exit", "3"]);
    const done = await run(["random", "100000", "1"]);
    return { status: done.status.status, code: code(failed.status), sha256: sum(done.output), bytes: done.output.length };
  },
  async stdin() {
    const { output } = await run(["sink"], Readable.from([Buffer.from("abc")]));
    return output.toString();
  },
  // Before v5 the client ends stdin by closing the connection, and neither output nor status comes any more.
  async stdinBefore5() {
    const patience = new Promise((resolve) => setTimeout(resolve, 3000, "nothing came"));
    return await Promise.race([actions.stdin(), patience]);
  },
  async attach() {
    const stdout = new PassThrough();
    const stdin = new PassThrough();
    const socket = await new Attach(config).attach("default", "cat", "main", stdout, null, stdin, false);
    stdin.write("there and back\n");
    const [line] = await new Promise((resolve) => stdout.on("data", (data) => resolve([data.toString()])));
    socket.close();
    return line;
  },
  async log() {
    const stream = new PassThrough();
    const text = buffer(stream);
    await new Log(config).log("default", "log", "main", stream, { follow: true });
    return (await text).toString();
  },
  async watch() {
    const names = [];
    await new Promise((resolve, reject) => {
      new Watch(config)
        .watch(
          "/api/v1/namespaces/default/pods",
          { timeoutSeconds: 1 },
          (_, pod) => names.push(pod.metadata.name),
          (error) => (error && error.name !== "AbortError" ? reject(error) : resolve()),
        )
        .catch(reject);
    });
    return names.sort();
  },
};

let found;
try {
  found = { result: await actions[name]() };
} catch (error) {
  found = { error: error?.constructor?.name ?? "", text: String(error?.message ?? error) };
}
console.log(JSON.stringify(found));
process.exit(0);
