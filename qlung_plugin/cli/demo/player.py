"""A cycle of a recording to hear.

Authors
 * qlung_plugin contributors
"""

import base64

from qlung_plugin.dataio.recordings import Recording
from qlung_plugin.report.media import encode_sound

LONGEST_CUT = 60.0  # s


def make_player(
    recording: Recording, number: int, start: float, end: float
) -> str:
    """A player of a cycle in HTML, with its times and the sound in it.

    Of the recording's channels, those are heard that are classified; of a long
    cycle, the first :data:`LONGEST_CUT`. If the recording is gone or damaged, or
    MP3 cannot be written, it is an OSError or a ValueError.
    """
    last = min(end, start + LONGEST_CUT)
    waveform = recording.read(start, last)
    sound, gain = encode_sound(waveform, recording.sample_rate)
    about = f"Cycle {number}, {start:.2f} to {last:.2f} s"
    if last < end:
        about += f" (the first {LONGEST_CUT:g} s of it)"
    if round(gain):
        change = "louder" if gain > 0 else "quieter"
        about += f", {abs(gain):.0f} dB {change} than recorded"
    source = f"data:audio/mpeg;base64,{base64.b64encode(sound).decode()}"
    return f'<p>{about}</p><audio controls src="{source}"></audio>'
