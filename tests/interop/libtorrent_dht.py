#!/usr/bin/env python3
"""A DHT node of libtorrent, without any torrent.

libtorrent_dht.py [bootstrap=HOST:PORT]… [announce=INFO_HASH:PORT]… [find=INFO_HASH]…

Prints "listening HOST:PORT", then "peer INFO_HASH HOST:PORT" as they come, until it is ended.
"""

import sys
import time

import libtorrent as lt
from libtorrent_session import session


def given(name):
    start = name + "="
    return [arg[len(start) :] for arg in sys.argv[1:] if arg.startswith(start)]


def info_hash(text):
    return lt.sha1_hash(bytes.fromhex(text))


def main():
    ses = session("127.0.0.1", given("bootstrap"))
    announces = [errand.split(":") for errand in given("announce")]
    said = set()

    def say(line):
        if line not in said:
            print(line, flush=True)
        said.add(line)

    again = 0
    while True:
        if ses.listen_port():
            say(f"listening 127.0.0.1:{ses.listen_port()}")
        # Both can come too early for the others, so they are repeated.
        if time.monotonic() >= again:
            again = time.monotonic() + 0.5
            for name, port in announces:
                ses.dht_announce(info_hash(name), int(port), 0)
            for name in given("find"):
                ses.dht_get_peers(info_hash(name))
        ses.wait_for_alert(100)
        for alert in ses.pop_alerts():
            if isinstance(alert, lt.dht_get_peers_reply_alert):
                for host, port in alert.peers():
                    say(f"peer {alert.info_hash} {host}:{port}")
            else:
                print(alert.message(), file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
