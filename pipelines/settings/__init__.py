"""How the studio is set up. Start reading at declaration.py."""

from ..errors import SettingsError
from .declaration import (
    EARLIER,
    EARLIER_MARK,
    LOOPBACK,
    VERSION,
    Settings,
    default_data_dir,
    from_table,
    to_table,
)
from .sources import load, parser, read_toml

__all__ = ["EARLIER", "EARLIER_MARK", "LOOPBACK", "VERSION", "Settings", "SettingsError", "default_data_dir",
           "from_table", "load", "parser", "read_toml", "to_table"]
