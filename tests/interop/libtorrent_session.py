"""Sessions of libtorrent that keep to the address they are given."""

import libtorrent as lt


def session(ip, bootstrap=None):
    """Listens at a free port of `ip`. `bootstrap`, if not None, is a list of "host:port" and turns the DHT on."""
    categories = lt.alert.category_t
    return lt.session(
        {
            "listen_interfaces": f"{ip}:0",
            "enable_lsd": False,
            "enable_upnp": False,
            "enable_natpmp": False,
            "enable_incoming_utp": False,
            "enable_outgoing_utp": False,
            "allow_multiple_connections_per_ip": True,
            "enable_dht": bootstrap is not None,
            "dht_bootstrap_nodes": ",".join(bootstrap or []),
            # All nodes have one address here, and it is a local one.
            "dht_restrict_routing_ips": False,
            "dht_restrict_search_ips": False,
            "dht_ignore_dark_internet": False,
            "dht_block_ratelimit": 10_000,
            "dht_upload_rate_limit": 1_000_000,
            "alert_mask": categories.error_notification
            | categories.status_notification
            | categories.tracker_notification
            | categories.peer_notification
            | categories.dht_notification
            | categories.dht_operation_notification,
        }
    )
