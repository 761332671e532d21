"""What decides where files are on a machine: its platform, the home directory and the environment."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePath, PurePosixPath, PureWindowsPath

from rotoscope.variables import variable_value

__all__ = ["Surroundings"]


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What decides where files are.

    Attributes:
        platform: as `sys.platform` says it.
        home: the user's home directory.
        environ: the environment.
    """

    platform: str
    home: str
    environ: Mapping[str, str]

    def folder(self, variable: str, *default: str) -> PurePath:
        """The folder that a variable names, else one below the home directory."""
        path = PureWindowsPath if self.platform == "win32" else PurePosixPath
        named = variable_value(self.environ, variable)
        return path(named) if named else path(self.home, *default)

    def below_home(self, *parts: str) -> PurePath:
        """A path below the home directory."""
        return self.folder("", *parts)

    @property
    def app_data(self) -> PurePath:
        """Where applications keep the settings of a user."""
        if self.platform == "win32":
            return self.folder("APPDATA", "AppData", "Roaming")
        if self.platform == "darwin":
            return PurePosixPath(self.home, "Library", "Application Support")
        return self.dot_config

    @property
    def dot_config(self) -> PurePath:
        """Where those do that follow the XDG rules, or `~/.config` in any case."""
        return self.folder("XDG_CONFIG_HOME" if self.platform != "darwin" else "", ".config")
