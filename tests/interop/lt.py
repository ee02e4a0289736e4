"""libtorrent as a peer or as a maker of torrents, for tests/interop and tests/bench.

Prints a line at each step: "listening", "seeding" (all data was there, or is now), then "finished" when what was
downloaded is also flushed to the files.
"""
import argparse
import sys

import libtorrent as lt


def say(word):
    print(word, flush=True)


def make(args):
    storage = lt.file_storage()
    lt.add_files(storage, args.data)
    torrent = lt.create_torrent(storage, args.piece_length, lt.create_torrent.v1_only)
    for url in args.tracker:
        torrent.add_tracker(url)
    torrent.set_creator("libtorrent")
    parent = args.data.rstrip("/").rpartition("/")[0]
    lt.set_piece_hashes(torrent, parent)
    with open(args.torrent, "wb") as out:
        out.write(lt.bencode(torrent.generate()))


def settings_of(args):
    host, port = args.listen.rsplit(":", 1)
    settings = {
        "listen_interfaces": f"{host}:{port}",
        "outgoing_interfaces": host.strip("[]"),
        "enable_dht": False,
        "enable_lsd": False,
        "enable_upnp": False,
        "enable_natpmp": False,
        "enable_incoming_utp": False,
        "enable_outgoing_utp": False,
        "allow_multiple_connections_per_ip": True,
        "in_enc_policy": int(lt.enc_policy.disabled),
        "out_enc_policy": int(lt.enc_policy.disabled),
        "alert_mask": lt.alert.category_t.status_notification
        | lt.alert.category_t.error_notification
        | lt.alert.category_t.storage_notification,
    }
    for pair in args.set:
        name, value = pair.split("=")
        settings[name] = int(value)
    return settings


def run(args):
    session = lt.session(settings_of(args))
    # Peers on loopback are outside the global class, whose rate limits would not reach them.
    everyone = lt.ip_filter()
    everyone.add_rule("0.0.0.0", "255.255.255.255", 1)
    session.set_peer_class_filter(everyone)

    if args.torrent.startswith("magnet:"):
        params = lt.parse_magnet_uri(args.torrent)
    else:
        params = lt.add_torrent_params()
        params.ti = lt.torrent_info(args.torrent)
    params.save_path = args.data
    params.flags &= ~(lt.torrent_flags.paused | lt.torrent_flags.auto_managed)
    if not args.pex:
        params.flags |= lt.torrent_flags.disable_pex
    if args.role == "seed":
        params.flags |= lt.torrent_flags.seed_mode
    handle = session.add_torrent(params)
    for peer in args.peer:
        host, port = peer.rsplit(":", 1)
        handle.connect_peer((host.strip("[]"), int(port)))

    finished = False
    while True:
        session.wait_for_alert(1000)
        for alert in session.pop_alerts():
            if isinstance(alert, lt.listen_succeeded_alert):
                say("listening")
            elif isinstance(alert, lt.torrent_finished_alert) and not finished:
                finished = True
                say("seeding")
                # Finished means that the last block is in memory, not in the file.
                handle.flush_cache()
            elif isinstance(alert, lt.cache_flushed_alert) and finished:
                say("finished")
                if args.exit:
                    return
            elif isinstance(alert, lt.peer_log_alert):
                # Only with an alert_mask that asks for it.
                say(alert.message())
            elif "error" in type(alert).__name__ or "failed" in type(alert).__name__:
                print(alert, file=sys.stderr, flush=True)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("role", choices=["make", "seed", "leech"])
    parser.add_argument("torrent")
    parser.add_argument("data", help="the folder it is in; for make: the file or folder itself")
    parser.add_argument("--listen", help="ADDRESS:PORT")
    parser.add_argument("--peer", action="append", default=[])
    parser.add_argument("--tracker", action="append", default=[])
    parser.add_argument("--piece-length", type=int, default=0)
    parser.add_argument("--set", action="append", default=[], help="NAME=NUMBER, a setting of libtorrent")
    parser.add_argument("--pex", action="store_true", help="exchange peers")
    parser.add_argument("--exit", action="store_true", help="end when finished")
    args = parser.parse_args()
    if args.role == "make":
        make(args)
    else:
        run(args)


main()
