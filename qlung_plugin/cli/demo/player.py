"""A cycle of a recording to hear.

Authors
 * qlung_plugin contributors
"""

import base64

from qlung_plugin.report.media import encode_sound

LONGEST_CUT = 60.0  # s


def make_player(recording, number, start, end):
    """A player of a cycle, with its times.

    Arguments
    ---------
    recording : qlung_plugin.dataio.recordings.Recording
        The recording; of its channels, those are heard that are classified.
    number : int
        Of the cycle in the table.
    start, end : float
        In seconds. At most :data:`LONGEST_CUT` of it are played.

    Returns
    -------
    str
        HTML, with the sound in it.

    Raises
    ------
    OSError, ValueError
        If the recording is gone or damaged, or MP3 cannot be written.

    Example
    -------
    >>> import numpy as np, soundfile
    >>> from qlung_plugin.dataio.recordings import Recording
    >>> path = getfixture("tmp_path") / "a.wav"
    >>> tone = 0.09 * np.sin(np.arange(8000))
    >>> soundfile.write(path, tone, 4000)
    >>> make_player(Recording(path), 3, 0.5, 1.5).partition("<audio")[0]
    '<p>Cycle 3, 0.50 to 1.50 s, 19 dB louder than recorded</p>'
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
