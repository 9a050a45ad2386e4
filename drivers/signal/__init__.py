"""Light, sound and text for the person at the lane, behind `drivers.ports.Signal`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

from drivers.ports import LightOutput, Signal
from drivers.signal.display import Display
from drivers.signal.light import GpioLight, LightWiring, SignLight
from drivers.signal.log import LogSignal
from drivers.signal.panel import Panel
from drivers.signal.parts import Lamps, Part
from drivers.signal.sound import PartReport, Sound, player_command
from drivers.signal.speech import LANGUAGES, Speech
from drivers.signal.text import TextDisplay, TextSettings
from protocol.clock import Clock

__all__ = ["PanelSettings", "SoundSettings", "TextSettings", "open_light", "open_panel", "open_signal"]


@dataclass(frozen=True, slots=True)
class SoundSettings:
    player: str
    """`aplay` or `paplay`."""
    cache: Path
    """Tones and made words are kept there."""
    device: str = ""
    """As the player names it; empty: the system's default."""
    speech: Sequence[str] = LANGUAGES
    """Languages in the order in which they are spoken; none: tones only."""
    recordings: Path | None = None
    repeat_s: float = 10.0


@dataclass(frozen=True, slots=True)
class PanelSettings:
    """What a panel is made of; a part that is not there is None."""

    light: LightOutput | None = None
    sound: SoundSettings | None = None
    text: TextSettings | None = None


def open_signal(*, driver: str, path: str = "") -> Signal:
    """`simulated`: a display on the Unix socket `path`. `log`: no device, messages go to the log.

    Raises ValueError for a driver that does not exist and for a display without a path.
    """
    if driver == "log":
        return LogSignal()
    if driver != "simulated":
        raise ValueError(f"no signal driver {driver!r}")
    if not path:
        raise ValueError("a display needs the path of its socket")
    return Display(Path(path))


def open_light(wiring: LightWiring) -> LightOutput:
    """The lamps of a panel, by the kind of wiring. Raises ValueError where the library is not installed."""
    # Each library is loaded only where lamps of its own are configured.
    try:
        if isinstance(wiring, GpioLight):
            from drivers.signal.light_gpio import GpioLamps  # noqa: PLC0415

            return SignLight(GpioLamps(wiring), wiring.lines)
        from drivers.signal.light_modbus import ModbusLamps  # noqa: PLC0415

        return SignLight(ModbusLamps(wiring), wiring.coils)
    except ImportError as error:
        raise ValueError(f"{error.name} is not installed") from error


def open_panel(settings: PanelSettings, *, clock: Clock, random: Random, report: PartReport) -> Signal:
    """`panel`: a sign made of parts. `report(part, works, why)` is called when a part is lost or back: `light`, `sound`,
    `speech` (words are lacking, tones go on) or `text`.

    Raises ValueError for a panel without parts and for options that cannot be meant.
    """
    parts: list[Part] = []
    if settings.light is not None:
        parts.append(Lamps(settings.light))
    if settings.sound is not None:
        sound = settings.sound
        speech = Speech(sound.cache, languages=sound.speech, recordings=sound.recordings)
        command = player_command(sound.player, sound.device)
        parts.append(Sound(command, speech, sound.cache, clock=clock, report=report, repeat_s=sound.repeat_s))
    if settings.text is not None:
        parts.append(TextDisplay(settings.text))
    return Panel(parts, report=report, random=random)
