"""The process in which a model's program runs: guarded first, then it takes the program, then it answers the tests' calls."""

import os
import sys


def main() -> None:
    source, reading, writing = map(int, sys.argv[1:4])
    folder = os.path.dirname(__file__)
    sys.path.insert(0, folder)
    import guard
    import numpy_finder
    import wire

    sys.path.remove(folder)
    request = guard.enter(source, numpy_finder.install)
    peer = wire.Peer(reading, writing) if reading >= 0 else None
    # a module of its own, so that the program sees nothing of this one's names
    module = type(sys)("__main__")
    sys.modules["__main__"] = module
    try:
        exec(compile(request["code"], "<program>", "exec"), module.__dict__)
    except BaseException as error:
        if peer is None or isinstance(error, SystemExit):
            raise
        peer.send({"failed": f"{type(error).__name__}: {error}"})
        return
    if peer is None:
        return
    names = {name: value.__name__ if isinstance(value, type(sys)) else None for name, value in module.__dict__.items() if name[:2] != "__"}
    peer.send({"ready": names})
    peer.given = {0: module.__dict__}
    try:
        while True:
            peer.serve(peer.receive())
    except wire.Gone:
        return


if __name__ == "__main__":
    main()
