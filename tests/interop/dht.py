"""A network of libtorrent's DHT nodes on loopback, each at an address of its own; one of them may seed or leech.

Prints "at HOST:PORT" of a node to begin with when all nodes know some others, then "finished" when what was leeched
is flushed to the files. Runs until it is killed.
"""
import argparse
import time

import libtorrent as lt

SETTINGS = {
    "enable_dht": True,
    "enable_lsd": False,
    "enable_upnp": False,
    "enable_natpmp": False,
    "enable_incoming_utp": False,
    "enable_outgoing_utp": False,
    "allow_multiple_connections_per_ip": True,
    "in_enc_policy": int(lt.enc_policy.disabled),
    "out_enc_policy": int(lt.enc_policy.disabled),
    "dht_bootstrap_nodes": "",
    "dht_restrict_routing_ips": False,
    "dht_restrict_search_ips": False,
    "dht_prefer_verified_node_ids": False,
    "dht_enforce_node_id": False,
    "dht_ignore_dark_internet": False,
    "dht_announce_interval": 5,
    "alert_mask": lt.alert.category_t.status_notification
    | lt.alert.category_t.storage_notification
    | lt.alert.category_t.dht_notification,
}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--count", type=int, default=20)
    parser.add_argument("--network", required=True, help="the first three numbers of the addresses: 127.9.0")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--node", help="HOST:PORT of one more node")
    parser.add_argument("--seed", nargs=2, metavar=("TORRENT", "DATA"))
    parser.add_argument("--leech", nargs=2, metavar=("TORRENT", "DATA"))
    args = parser.parse_args()

    hosts = [f"{args.network}.{n + 1}" for n in range(args.count)]
    sessions = []
    for host in hosts:
        own = {"listen_interfaces": f"{host}:{args.port}", "outgoing_interfaces": host}
        sessions.append(lt.session({**SETTINGS, **own}))
    for n, session in enumerate(sessions):
        session.add_dht_node((hosts[(n + 1) % args.count], args.port))
        session.add_dht_node((hosts[0], args.port))
        if args.node:
            host, port = args.node.rsplit(":", 1)
            session.add_dht_node((host, int(port)))

    deadline = time.monotonic() + 60
    least = min(4, args.count - 1)
    while time.monotonic() < deadline:
        for session in sessions:
            session.post_session_stats()
        time.sleep(0.5)
        known = []
        for session in sessions:
            for alert in session.pop_alerts():
                if isinstance(alert, lt.session_stats_alert):
                    known.append(alert.values["dht.dht_nodes"])
        if len(known) == len(sessions) and min(known) >= least:
            break
    print(f"at {hosts[0]}:{args.port}", flush=True)

    last = sessions[-1]
    for role, given in (("seed", args.seed), ("leech", args.leech)):
        if given:
            params = lt.add_torrent_params()
            params.ti = lt.torrent_info(given[0])
            params.save_path = given[1]
            params.flags &= ~(lt.torrent_flags.paused | lt.torrent_flags.auto_managed)
            params.flags |= lt.torrent_flags.disable_pex
            if role == "seed":
                params.flags |= lt.torrent_flags.seed_mode
            handle = last.add_torrent(params)
    finished = False
    while True:
        last.wait_for_alert(1000)
        for alert in last.pop_alerts():
            if isinstance(alert, lt.torrent_finished_alert) and args.leech and not finished:
                finished = True
                handle.flush_cache()
            elif isinstance(alert, lt.cache_flushed_alert) and finished:
                print("finished", flush=True)


main()
