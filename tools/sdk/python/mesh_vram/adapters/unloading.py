"""How a model is made to leave its server, without harm to a request, and seen to be gone."""

import threading
import time

from .calls import ServerError
from .model import Model
from .servers import Server

POLL_S = 0.05
UNLOAD_S = 30.0  # an order to unload is given up then
ORDER_AGAIN_S = 3.0  # an order that came at the wrong moment may have been forgotten


def try_to_unload(server: Server, model: Model, lock: threading.Condition, within: float) -> str:
    """Empty if it is gone; else why it is not. `model` is closed to new requests; `lock` tells when one of it ended."""
    try:
        if not server.unload_waits and (why := _is_in_use(server, model, lock, within * 0.8)):
            return why
        began, ordered_at = time.monotonic(), 0.0
        # In this order: a request on its way may load what is not there yet.
        while model.running or model.name in server.loaded():
            now = time.monotonic()
            if model.running and now - began > within * 0.8:
                return f"{model.running} requests run"
            if now - began > UNLOAD_S:
                return "its server has it still"
            if now - ordered_at > ORDER_AGAIN_S and (server.unload_waits or not server.is_busy(model.name)):
                server.unload(model.name, UNLOAD_S)
                ordered_at = now
            time.sleep(POLL_S)
        return ""
    except ServerError as error:
        return str(error)


def _is_in_use(server: Server, model: Model, lock: threading.Condition, within: float) -> str:
    until = time.monotonic() + within
    with lock:
        while model.running and (left := until - time.monotonic()) > 0:
            lock.wait(left)
        if model.running:
            return f"{model.running} requests run"
    while server.is_busy(model.name):
        if time.monotonic() > until:
            return "requests run that did not come through here"
        time.sleep(POLL_S)
    return ""
