#!/usr/bin/env python3
"""A peer made of python libtorrent, with every discovery off.

libtorrent_peer.py seed TORRENT FOLDER IP            prints "listening PORT" when the payload is checked and shared
libtorrent_peer.py get TORRENT FOLDER IP [PEER]      ends when the payload is whole; PEER is host:port
libtorrent_peer.py create PATH OUT PIECE_LENGTH      writes a v1 .torrent, files in the order of their paths
"""

import os
import sys
import time

import libtorrent as lt


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


def session(ip):
    return lt.session(
        {
            "listen_interfaces": f"{ip}:0",
            "enable_dht": False,
            "enable_lsd": False,
            "enable_upnp": False,
            "enable_natpmp": False,
            "enable_incoming_utp": False,
            "enable_outgoing_utp": False,
            "allow_multiple_connections_per_ip": True,
            "alert_mask": lt.alert.category_t.error_notification
            | lt.alert.category_t.status_notification
            | lt.alert.category_t.tracker_notification
            | lt.alert.category_t.peer_notification,
        }
    )


def transfer(mode, torrent, folder, ip, peer=None):
    ses = session(ip)
    params = lt.add_torrent_params()
    params.ti = lt.torrent_info(torrent)
    params.save_path = folder
    handle = ses.add_torrent(params)
    if peer:
        host, port = peer.rsplit(":", 1)
        handle.connect_peer((host, int(port)))
    said = False
    while True:
        ses.wait_for_alert(200)
        for alert in ses.pop_alerts():
            print(alert.message(), file=sys.stderr, flush=True)
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
