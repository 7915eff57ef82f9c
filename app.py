"""Start the studio: settings, then Studio, then the page. Nothing else in this project starts anything."""

from __future__ import annotations

import gc
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, MutableMapping, Sequence
from pathlib import Path
from typing import Any

from pipelines import settings as settings_of
from pipelines.errors import StudioError
from pipelines.machine.device import prepare_environment
from pipelines.machine.locks import app_of
from pipelines.settings import Settings

FAILED = 2


def main(argv: Sequence[str] | None = None) -> int:
    """Run the studio until Ctrl-C or SIGTERM. Return 0, or 2 when it cannot start."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # both end the same way
    try:
        settings = settings_of.load(sys.argv[1:] if argv is None else argv, os.environ)
        logging.basicConfig(level=settings.log_level.upper(), format="%(levelname)s %(name)s: %(message)s")
        quieten(os.environ, settings)
        make_folder(settings.data_dir / "cache")  # before the imports, which take seconds
        with app_of(settings.data_dir) as tell_others:
            run(settings, tell_others)
    except StudioError as error:
        print(error, file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        pass
    return 0


def quieten(environ: MutableMapping[str, str], settings: Settings) -> None:
    """Set the environment before gradio and torch are imported: no calls home, uploads in our own folder."""
    for name in [name for name in environ if name.startswith("GRADIO_")]:
        del environ[name]  # several of them would open the page to others; --host and --share are the way
    prepare_environment(environ, offline=settings.offline)
    if settings.log_level != "debug":
        environ.setdefault("TRANSFORMERS_VERBOSITY", "error")  # it advises to install packages that we must not have
    environ["GRADIO_TEMP_DIR"] = str(settings.data_dir / "cache")
    for name in ("NO_PROXY", "no_proxy"):  # Gradio asks itself whether it is up; a proxy cannot know
        environ[name] = ",".join(filter(None, (environ.get(name), "127.0.0.1,localhost,::1")))
    logging.getLogger("httpx").setLevel(logging.WARNING)  # it notes every request


def run(settings: Settings, tell_others: Callable[[str], None]) -> None:
    """Build everything, say where the page is, and wait to be interrupted.

    tell_others: notes the address for an app that wants the same data folder.
    """
    from pipelines.engine.proxy import EngineProcess
    from pipelines.studio.studio import Studio
    from ui import language, shell
    from ui.server.guard import limit_decoders
    from ui.server.launch import launch

    limit_decoders()
    gc.disable()  # a page is a million objects that all stay: looking through them again and again finds nothing
    studio = Studio(settings, language.speaker, EngineProcess)
    try:
        running = launch(shell.build(studio), settings)
        try:
            announce(running)
            tell_others(running.url)
            gc.freeze()
            gc.enable()
            studio.warm_up()
            stopped = threading.Event()
            while not stopped.wait(1):  # without a limit, Ctrl-C would not be noticed on Windows
                pass
        finally:
            running.close()
    finally:
        studio.close()


def make_folder(folder: Path) -> None:
    """Create the data folder, or raise StudioError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StudioError(f"data_dir: the folder cannot be made ({error.strerror}).") from None


def announce(running: Any) -> None:
    """Print the addresses; a password that was made here is shown this once."""
    for notice in running.notices:
        print(notice)
    if running.login is not None and running.login.generated:
        print(f"Log in as {running.login.user} with the password {running.login.generated}")
    if running.owner_url:
        print(f"For yourself alone, to see and end the jobs of all: {running.owner_url}")
    if running.public.url:
        print(f"Public link: {running.public.url}")
    print(f"Atelier is at {running.url}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
