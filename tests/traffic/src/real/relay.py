"""A cable between two interfaces, which loses, delays and reorders frames."""

import collections
import random
import select
import signal
import socket
import sys
import time

DELAY_S = 0.002
LOST, REORDERED = 0.015, 0.03
# So many later frames pass one that is held back, and so long it waits for them.
PASSING = (1, 3)
HELD_S = 0.03

# `linux/if_packet.h`. A header of 10 bytes before each frame has what the sender left to a network
# card: its checksum, and segments. The receiver gets the same.
SOL_PACKET, PACKET_VNET_HDR, PACKET_IGNORE_OUTGOING = 263, 15, 23
ETH_P_ALL = 3
LENGTH_MAX = 1 << 17


def interface(name):
    link = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    link.setsockopt(SOL_PACKET, PACKET_VNET_HDR, 1)
    link.setsockopt(SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)
    link.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
    link.setblocking(False)
    link.bind((name, ETH_P_ALL))
    return link


class Direction:
    def __init__(self, source, target, seed):
        self.source, self.target = source, target
        self.random = random.Random(seed)
        self.queue = collections.deque()
        # The frame that is held back, how many more must pass it, and until when.
        self.held, self.passing, self.until = None, 0, 0.0
        self.lost = self.reordered = 0

    def receive(self):
        while True:
            try:
                frame = self.source.recv(LENGTH_MAX)
            except BlockingIOError:
                return
            if self.random.random() < LOST:
                self.lost += 1
            else:
                self.queue.append((time.monotonic() + DELAY_S, frame))

    def send(self, frame):
        try:
            self.target.send(frame)
        except OSError:
            self.lost += 1

    def act(self, now):
        """Sends what is due."""
        while self.queue and self.queue[0][0] <= now:
            _, frame = self.queue.popleft()
            if self.held is None and self.random.random() < REORDERED:
                self.held, self.until = frame, now + HELD_S
                self.passing = self.first = self.random.randint(*PASSING)
                continue
            self.send(frame)
            if self.held is not None:
                self.passing -= 1
                if self.passing == 0:
                    self.release()
        if self.held is not None and self.until <= now:
            self.release()

    def release(self):
        self.reordered += self.passing < self.first
        self.send(self.held)
        self.held = None

    def next(self):
        times = [self.queue[0][0]] if self.queue else []
        return min(times + ([self.until] if self.held is not None else [1e18]))


def end(*_):
    raise SystemExit


signal.signal(signal.SIGINT, end)
left, right = map(interface, sys.argv[1:3])
directions = {left: Direction(left, right, 1), right: Direction(right, left, 2)}
print("ready", flush=True)
try:
    while True:
        due = min(direction.next() for direction in directions.values())
        wait = min(1.0, max(0.0, due - time.monotonic()))
        for source in select.select([left, right], [], [], wait)[0]:
            directions[source].receive()
        for direction in directions.values():
            direction.act(time.monotonic())
finally:
    both = directions.values()
    print(sum(one.lost for one in both), sum(one.reordered for one in both), flush=True)
