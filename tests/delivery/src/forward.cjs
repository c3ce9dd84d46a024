// A server of the Forward protocol: writes each record as a line.
// Arguments: the folder of @fluent-org/logger, a port, a file.
const [library, port, path] = process.argv.slice(2);
const fs = require("fs");
const { FluentServer } = require(library);

const file = fs.openSync(path, "a");
const server = new FluentServer({ listenOptions: { host: "127.0.0.1", port: Number(port) } });
server.on("entry", (tag, time, record) => fs.writeSync(file, JSON.stringify(record) + "\n"));
// It acknowledges a message just before it emits the message's records: end between messages.
process.on("SIGTERM", () => process.exit(0));
server.listen();
