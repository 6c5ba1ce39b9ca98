#!/usr/bin/env python3
"""libtorrent with everything off that is not measured: libtorrent_peer.py get|seed|check TORRENT FOLDER PORT

At the end of get and check it tells what they took from the start of the session on.
"""
import sys
import time

import libtorrent as lt

mode, torrent, folder, port = sys.argv[1:]
begun, cpu = time.monotonic(), time.process_time()
session = lt.session({
    "listen_interfaces": f"0.0.0.0:{port}", "enable_dht": False, "enable_lsd": False, "enable_upnp": False,
    "enable_natpmp": False, "enable_incoming_utp": False, "enable_outgoing_utp": False, "alert_mask": 0,
    "allow_multiple_connections_per_ip": True, "connection_speed": 200, "unchoke_slots_limit": 100,
    "out_enc_policy": 2, "in_enc_policy": 2,
})
params = lt.add_torrent_params()
params.ti, params.save_path = lt.torrent_info(torrent), folder
params.flags &= ~(lt.torrent_flags.auto_managed | lt.torrent_flags.paused)
if mode == "seed":
    params.flags |= lt.torrent_flags.seed_mode
handle = session.add_torrent(params)
if mode == "seed":
    while True:
        time.sleep(5)
while not handle.status().is_seeding:
    time.sleep(0.01)
    if mode == "check" and handle.status().state == lt.torrent_status.downloading:
        sys.exit("the payload is not good")
print(f"done wall {time.monotonic() - begun:.3f} cpu {time.process_time() - cpu:.3f}", flush=True)
