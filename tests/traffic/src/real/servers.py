"""Servers for real traffic: HTTP, a resolver, an echo of datagrams, and a greeting as of SSH."""

import http.server
import socket
import sys
import threading

V4, V6 = sys.argv[1:3]


class Page(http.server.BaseHTTPRequestHandler):
    """Answers `/NUMBER` with so many bytes."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        body = b"x" * int(self.path[1:])
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True


class Server6(Server):
    address_family = socket.AF_INET6


def datagrams(port, answer):
    """Answers each datagram at a port."""
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    udp.bind((V4, port))
    while True:
        question, asker = udp.recvfrom(4096)
        udp.sendto(answer(question), asker)


def resolved(question):
    """An answer of one address: RFC 1035, section 4.1."""
    end = question.index(b"\0", 12) + 5
    record = b"\xc0\x0c\0\1\0\1\0\0\0\x3c\0\4\x0a\x4d\1\2"
    return question[:2] + b"\x81\x80\0\1\0\1\0\0\0\0" + question[12:end] + record


def greetings(listener):
    """Greets who connects, and hangs up."""
    while True:
        connection, _ = listener.accept()
        connection.sendall(b"SSH-2.0-none\r\n")
        connection.recv(4096)
        connection.close()


def start(target, *arguments):
    threading.Thread(target=target, args=arguments, daemon=True).start()


start(Server((V4, 8080), Page).serve_forever)
start(Server6((V6, 8080), Page).serve_forever)
start(datagrams, 53, resolved)
start(datagrams, 5000, lambda question: question)
start(greetings, socket.create_server((V4, 22)))
print("ready", flush=True)
threading.Event().wait()
