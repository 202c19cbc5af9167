"""A lease for every model that a foreign server has loaded, and models unloaded when their lease is asked for.

A model is at rest, or one job is under way for it: it gets its lease (and is loaded), or it is unloaded. Jobs have a thread
each; the lock is held only to look and to write down, never over a call to the server or to the arbiter.
"""

import inspect
import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from .. import errors
from ..connection import Connection
from ..leases import Lease, Wanted
from .calls import ServerError
from .listener import Listener
from .model import NO_MEMORY, Model, NotAdmitted
from .servers import Server
from .unloading import POLL_S, try_to_unload

LOG = logging.getLogger("mesh_vram.adapters")

MODELS_MAX = 512  # known at a time; whoever asks the front for names that are none must not fill this process
RETRY_S = 1.0  # between two tries to unload; the arbiter asks again after 10 s by itself
TRIES_S = 10.0
LOAD_S = 600.0
LINGER_S = 3.0  # a lease whose model the server does not show yet, or not any more
AGED_S = 5.0  # who waited so long for memory makes models rest that are never idle
IDLE_S = 1.0  # less, and a model is taken to be in use by somebody who thinks
TOP_UP_S = 2.0  # to wait for more, holding some
REFUSAL_PAUSE_S = 5.0  # before a lease for what is loaded already is asked for again
MIB = 1 << 20


class Holdings:
    """What one server holds. tick() about once a second; the rest from any thread."""

    def __init__(self, server: Server, connection: Connection, *, sizes: dict[str, int], default_size: int | None = None,
                 priority: str = "normal", wait: float = 30.0, away: float = 10.0, load_s: float | None = None) -> None:
        self.server, self.connection = server, connection
        self.sizes, self.default_size = sizes, default_size
        self.priority, self.wait, self.away, self.load_s = priority, wait, away, load_s
        self.listener = Listener(server.address.host, server.address.port)
        self.lock = threading.Condition()
        self.models: dict[str, Model] = {}
        self.seen_at = time.monotonic()
        self.trouble: str | None = None
        # A newer arbiter is told for which process memory is leased.
        self.takes_pid = "pid" in inspect.signature(connection.lease).parameters

    # --- what the server has ---

    def tick(self) -> None:
        """Looks at the server once, and does what follows from it. Never raises what server or arbiter do."""
        began = time.monotonic()
        try:
            loaded = self.server.loaded()
        except ServerError as error:
            self._not_seen(error)
        else:
            self.listener.find()
            self._seen(loaded, began)
        self._make_room()

    def _not_seen(self, error: ServerError) -> None:
        self._trouble(str(error))
        is_gone = self.listener.is_gone()
        # Memory of a process that lives is not free because nobody answers for it.
        is_lost = self.listener.pid is None and time.monotonic() - self.seen_at > self.away
        if not is_gone and not is_lost:
            return
        self.server.forget()
        self.listener.forget()
        with self.lock:
            over = [model for model in self.models.values() if model.leases and model.job != "lease"]
        for model in over:
            LOG.warning("%s: its server %s; the lease ends", model.name, "died" if is_gone else f"is away for {self.away:g} s")
            self._release(model)

    def _seen(self, loaded: dict[str, int | None], at: float) -> None:
        self.seen_at = at
        self._trouble(None)
        over: list[Lease] = []
        with self.lock:
            for name, size in loaded.items():
                model = self._model(name)
                model.is_loaded = True
                model.size = size or model.size
            for model in self.models.values():
                if model.name not in loaded:
                    model.is_loaded = False
                    if model.leases and not model.job and not model.running and at - model.used_at > LINGER_S:
                        LOG.info("%s: unloaded by its server; the lease ends", model.name)
                        over += self._detach(model)
            there = [model for model in self.models.values() if model.name in loaded and not model.job]
        for lease in over:
            lease.release()
        for model in there:
            self._fit(model, at)

    def _fit(self, model: Model, now: float) -> None:
        """The lease of a model that is loaded is as large as the model."""
        if any(lease.is_lost for lease in model.leases):
            self._release(model)
        size = self._size_of(model)
        if size is None:
            return self._say_once(model, f"{model.name}: its server does not say its size; say --size {model.name}=SIZE")
        if size <= model.leased:
            self._commit(model, size)
        elif now - model.asked_at > REFUSAL_PAUSE_S:
            self._start(model, "lease", self._lease_loaded)

    def _commit(self, model: Model, size: int) -> None:
        """It is loaded: what was leased too much goes back, and the arbiter may ask for it as soon as it is idle."""
        with self.lock:
            loading, model.loading = model.loading, []
        for lease in loading:
            held = lease.bytes
            try:
                if held > 0:  # nothing: it was released meanwhile
                    lease.commit(max(1, min(held, size - (model.leased - held))))
            except errors.VramError as error:
                LOG.info("%s: %s", model.name, error)

    def _lease_loaded(self, model: Model) -> None:
        """After the fact: somebody loaded it, or it grew."""
        size = self._size_of(model)
        with self.lock:
            missing = (size or 0) - model.leased
        if missing <= 0:
            return
        model.asked_at = time.monotonic()
        lease = self._lease(model, missing, TOP_UP_S if model.leases else self.wait)
        self._take(model, lease, is_ready=True)
        self._commit(model, model.leased)
        LOG.info("%s: %d MiB leased for what is loaded", model.name, lease.bytes // MIB)

    def _take(self, model: Model, lease: Lease, is_ready: bool = False) -> None:
        with self.lock:
            model.leases.append(lease)
            model.loading.append(lease)
            model.is_ready = model.is_ready or is_ready
            if model.running:
                model.uses.enter_context(lease.use())

    # --- what requests want ---

    @contextmanager
    def use(self, name: str, deadline: float) -> Iterator[None]:
        """While in the block a request may run on the model. Waits for its memory until the deadline, else NotAdmitted."""
        model = self._enter(name, deadline)
        try:
            yield
        finally:
            with self.lock:
                model.running -= 1
                model.used_at = time.monotonic()
                if model.running == 0:
                    model.uses.close()
                self.lock.notify_all()

    def _enter(self, name: str, deadline: float) -> Model:
        began = time.monotonic()
        with self.lock:
            if name not in self.models and len(self.models) >= MODELS_MAX:
                self._forget_one()
            model = self._model(name)
            model.waiting_since.append(began)
            failures = model.failures
            try:
                while not model.is_open:
                    if model.failures != failures and model.failure is not None:
                        failures = model.failures
                        told = model.failure
                        if told.rule != NO_MEMORY:  # that was another request's deadline
                            raise NotAdmitted(told.rule, str(told), told.hint, told.again)
                    left = deadline - time.monotonic()
                    if left <= 0:
                        raise NotAdmitted(NO_MEMORY, f"{name} got no memory within {deadline - began:.1f} s",
                                          "see meshctl gpu for who has it, or wait longer")
                    if not model.job:
                        self._start(model, "lease", lambda one, until=deadline: self._lease_and_load(one, until))
                    self.lock.wait(left)
                if model.running == 0:
                    for lease in model.leases:
                        model.uses.enter_context(lease.use())
                model.running += 1
                model.used_at = time.monotonic()
                return model
            finally:
                model.waiting_since.remove(began)

    def _lease_and_load(self, model: Model, deadline: float) -> None:
        if not model.leases:
            size = self._size_of(model) or self.server.estimate(model.name)
            if size is None:
                raise NotAdmitted("size_unknown", f"Nobody knows how much memory {model.name} takes",
                                  f"start the adapter with --size {model.name}=SIZE", again=False)
            lease = self._lease(model, size, max(0.05, deadline - time.monotonic()))
            self._take(model, lease)
            LOG.info("%s: %d MiB leased for a request", model.name, lease.bytes // MIB)
        try:
            self._load(model)
        except (ServerError, NotAdmitted):
            if not model.is_loaded:
                self._release(model)
            raise
        with self.lock:
            model.is_ready = True
            model.used_at = time.monotonic()

    def _load(self, model: Model) -> None:
        until = time.monotonic() + LOAD_S
        self.server.load(model.name, LOAD_S)
        while not self.server.is_ready(model.name):
            if time.monotonic() > until:
                raise NotAdmitted("load_failed", f"{model.name} did not load within {LOAD_S:.0f} s")
            time.sleep(POLL_S)

    def _lease(self, model: Model, size: int, wait: float) -> Lease:
        with self.lock:
            ticket, model.ticket = model.ticket, None
        asked = {"priority": self.priority, "revocable": self.server.revocable, "wait": wait, "load": self.load_s, "ticket": ticket,
                 "on_yield": lambda _, wanted: self._asked(model, wanted)}
        if self.takes_pid and (pid := self.listener.pid) is not None:
            try:
                return self.connection.lease(model.name, size, pid=pid, **asked)
            except errors.Invalid as error:
                if error.rule != "pid_not_yours":
                    raise
                LOG.info("the server is another user's: what it uses shows as others', beside its leases")
                self.takes_pid = False
        return self.connection.lease(model.name, size, **asked)

    # --- giving back ---

    def _asked(self, model: Model, wanted: Wanted) -> int | None:
        with self.lock:
            if not model.leases:
                return 0
            if model.job != "lease":
                model.is_asked = True
            if not model.job:
                LOG.info("%s: asked for %d MiB", model.name, wanted.bytes // MIB)
                self._start(model, "unload", lambda one: self._unload(one, wanted.within))
                return None
            return None if model.job == "unload" else 0  # it is being loaded

    def _unload(self, model: Model, within: float) -> None:
        """Until it is known to be gone. Whatever stands against it is said to the arbiter, and tried again for a while."""
        until = time.monotonic() + TRIES_S
        while True:
            model.is_closed = True
            if not (why := try_to_unload(self.server, model, self.lock, within)) or self.listener.is_gone():
                break
            LOG.info("%s: not unloaded: %s", model.name, why)
            with self.lock:
                model.is_closed = False
                self.lock.notify_all()
            self._refuse(model)
            if time.monotonic() + RETRY_S > until:
                return
            time.sleep(RETRY_S)
        LOG.info("%s: unloaded, %d MiB given back", model.name, model.leased // MIB)
        if self.server.revocable == "offload" and model.is_asked and model.leases:
            self._keep_ticket(model, model.leases[0])
        self._release(model)

    @staticmethod
    def _keep_ticket(model: Model, lease: Lease) -> None:
        """What was offloaded comes back to its place in the queue."""
        try:
            lease.give_back(lease.bytes)
            model.ticket = lease.id
        except errors.VramError as error:
            LOG.info("%s: %s", model.name, error)

    def _refuse(self, model: Model) -> None:
        with self.lock:
            is_asked, model.is_asked = model.is_asked, False
        for lease in list(model.leases) if is_asked else []:
            try:
                lease.give_back(0)
            except errors.VramError as error:
                LOG.info("%s: %s", model.name, error)

    def _release(self, model: Model) -> None:
        for lease in self._detach(model):
            lease.release()

    def _detach(self, model: Model) -> list[Lease]:
        """From now on nobody computes with them; to be released without the lock."""
        with self.lock:
            leases, model.leases, model.loading = model.leases, [], []
            model.uses.pop_all()  # what ends with the lease need not be ended
            model.is_ready = model.is_loaded = model.is_closed = model.is_asked = False
            self.lock.notify_all()
        return leases

    def _make_room(self) -> None:
        """The arbiter asks nobody to yield to himself: among the models of this server it is decided here."""
        now = time.monotonic()
        with self.lock:
            waits = [min(model.waiting_since) for model in self.models.values()
                     if model.waiting_since and not model.leases and model.job == "lease"]
            if not waits or any(model.job == "unload" for model in self.models.values()):
                return
            is_aged = now - min(waits) > AGED_S
            held = [model for model in self.models.values() if model.leases and not model.job and not model.waiting_since
                    and (is_aged or (not model.running and now - model.used_at > IDLE_S))]
            if not held:
                return
            least = min(held, key=lambda model: (model.running > 0, model.used_at))
            LOG.info("%s: makes room for another model of this server", least.name)
            self._start(least, "unload", lambda one: self._unload(one, AGED_S))

    # --- bookkeeping ---

    def _model(self, name: str) -> Model:
        if name not in self.models:
            self.models[name] = Model(name)
        return self.models[name]

    def _forget_one(self) -> None:
        idle = [one.name for one in self.models.values() if not (one.leases or one.job or one.running or one.waiting_since)]
        if not idle:
            raise NotAdmitted("too_many_models", f"more than {MODELS_MAX} models")
        del self.models[idle[0]]

    def _size_of(self, model: Model) -> int | None:
        return self.sizes.get(model.name) or model.size or self.default_size

    def _start(self, model: Model, job: str, what) -> None:
        with self.lock:
            if model.job:
                return  # somebody was faster
            model.job = job
        threading.Thread(target=self._work, args=(model, what), name=f"{job} {model.name}", daemon=True).start()

    def _work(self, model: Model, what) -> None:
        failure: NotAdmitted | None = None
        try:
            what(model)
        except NotAdmitted as error:
            failure = error
        except ServerError as error:
            failure = NotAdmitted("server_failed", str(error))
        except errors.TimedOut as error:
            failure = NotAdmitted(NO_MEMORY, str(error))
        except errors.TooLarge as error:
            failure = NotAdmitted(error.rule or "never_fits", str(error), again=False)
        except errors.VramError as error:
            failure = NotAdmitted(error.rule or type(error).__name__.lower(), str(error))
        except Exception as error:
            LOG.exception("%s: a fault of the adapter", model.name)
            failure = NotAdmitted("internal", str(error))
        with self.lock:
            if failure is not None:
                LOG.warning("%s: %s", model.name, failure)
                model.failure, model.failures = failure, model.failures + 1
            model.job, model.is_closed = "", False
            self.lock.notify_all()

    def _trouble(self, text: str | None) -> None:
        if text != self.trouble:
            self.trouble = text
            LOG.log(logging.WARNING if text else logging.INFO, "%s", text or f"{self.server.address} answers")

    def _say_once(self, model: Model, text: str) -> None:
        if model.asked_at == 0.0:
            model.asked_at = time.monotonic()
            LOG.warning("%s", text)
