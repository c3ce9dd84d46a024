# node: node at work: compiled functions, workers, a server and its client

#: prepare
mkdir -p /srv/node; cat > /srv/node/work.js <<'NODE'
const { Worker, isMainThread } = require("worker_threads"), http = require("http");
const { execSync } = require("child_process");
function fibonacci(n) { return n < 2 ? n : fibonacci(n - 1) + fibonacci(n - 2); }
function busy() {
  for (let i = 0; i < 5; i++) fibonacci(22);
  return [..."a1b2c3".repeat(500)].filter(c => /[a-z]\d?/.test(c)).length;
}
busy();
if (isMainThread) {
  new Worker(__filename);
  const server = http.createServer((request, answer) => answer.end(String(busy())));
  server.listen(8081, "127.0.0.1", () => {
    http.get("http://127.0.0.1:8081/", answer => { answer.resume(); answer.on("end", () => {
      if (execSync("id -u").toString().trim() !== "0") process.exit(1);
      server.close(); }); });
  });
}
NODE
#: turn
node /srv/node/work.js
