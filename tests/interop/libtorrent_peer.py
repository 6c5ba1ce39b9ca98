#!/usr/bin/env python3
"""A peer made of python libtorrent, with every discovery off that it is not told to use.

libtorrent_peer.py seed SOURCE FOLDER IP [peer=HOST:PORT] [bootstrap=HOST:PORT]
    prints "listening PORT" when the payload is checked and shared
libtorrent_peer.py get SOURCE FOLDER IP [peer=HOST:PORT] [bootstrap=HOST:PORT]
    ends when the payload is whole
libtorrent_peer.py create PATH OUT PIECE_LENGTH
    writes a v1 .torrent, files in the order of their paths

SOURCE is a .torrent or a magnet link; a bootstrap address turns the DHT on.
"""

import os
import sys

import libtorrent as lt
from libtorrent_session import session


def create(path, out, piece_length):
    parent = os.path.dirname(os.path.abspath(path))
    found = sorted(
        ((entry.filename, entry.size) for entry in lt.list_files(path)),
        key=lambda entry: entry[0].encode(),
    )
    entries = [lt.create_file_entry(name, size) for name, size in found]
    maker = lt.create_torrent(entries, int(piece_length), lt.create_torrent.v1_only)
    lt.set_piece_hashes(maker, parent)
    with open(out, "wb") as file:
        file.write(lt.bencode(maker.generate()))
    print(lt.torrent_info(out).info_hashes().v1, flush=True)


def torrent(source, folder):
    if source.startswith("magnet:"):
        params = lt.parse_magnet_uri(source)
    else:
        params = lt.add_torrent_params()
        params.ti = lt.torrent_info(source)
    params.save_path = folder
    return params


def transfer(mode, source, folder, ip, *options):
    options = dict(option.split("=", 1) for option in options)
    bootstrap = options.get("bootstrap")
    ses = session(ip, [bootstrap] if bootstrap else None)
    handle = ses.add_torrent(torrent(source, folder))
    if "peer" in options:
        host, port = options["peer"].rsplit(":", 1)
        handle.connect_peer((host, int(port)))
    said = False
    while True:
        ses.wait_for_alert(200)
        for alert in ses.pop_alerts():
            print(alert.message(), file=sys.stderr, flush=True)
            if isinstance(alert, lt.dht_bootstrap_alert):
                # The first announce came too early if it was before this.
                handle.force_dht_announce()
        status = handle.status()
        if status.is_seeding and mode == "get":
            # The trackers hear "completed" and "stopped"; the files are written and closed.
            ses.pause()
            while not any(
                isinstance(alert, lt.torrent_paused_alert) for alert in ses.pop_alerts()
            ):
                ses.wait_for_alert(200)
            print("complete", flush=True)
            return
        if status.is_seeding and not said:
            print("listening", ses.listen_port(), flush=True)
            said = True


if __name__ == "__main__":
    if sys.argv[1] == "create":
        create(*sys.argv[2:])
    else:
        transfer(*sys.argv[1:])
