"""What a browser records of a microphone is read, as its MediaRecorder writes it.

Authors
 * qlung_plugin contributors
"""

import base64

import pytest

from qlung_plugin.dataio.recordings import Recording

# Records in pieces of 0.25 s, as for sending them while they come. Returns the
# file in base64 and the browser's own opinion of its duration in s.
RECORD = """async ([kind, seconds]) => {
  if (!MediaRecorder.isTypeSupported(kind)) return null;
  const stream = await navigator.mediaDevices.getUserMedia({audio: true});
  const recorder = new MediaRecorder(stream, {mimeType: kind});
  const parts = [];
  recorder.ondataavailable = event => parts.push(event.data);
  const stopped = new Promise(resolve => recorder.onstop = resolve);
  recorder.start(250);
  await new Promise(resolve => setTimeout(resolve, 1000 * seconds));
  recorder.stop();
  await stopped;
  const bytes = await new Blob(parts).arrayBuffer();
  const text = Array.from(
    new Uint8Array(bytes), byte => String.fromCharCode(byte)
  ).join("");
  const sound = await new AudioContext().decodeAudioData(bytes);
  return [btoa(text), sound.duration];
}"""
ADDRESS = "https://recorder.test/"  # only what is secure has a microphone


@pytest.mark.parametrize(
    "kind", ["audio/webm", "audio/webm;codecs=pcm", "audio/mp4"]
)
def test_the_microphone(microphone_page, tmp_path, kind):
    pytest.importorskip("av")
    page = microphone_page
    page.route(ADDRESS, lambda route: route.fulfill(body=""))
    page.goto(ADDRESS)
    recorded = page.evaluate(RECORD, [kind, 2.5])
    if recorded is None:
        pytest.skip(f"this chromium does not record {kind}")
    content, duration = base64.b64decode(recorded[0]), recorded[1]
    if "webm" in kind:  # a live one: no duration in its head, no index
        assert b"\x44\x89" not in content[:200]
        assert b"\x1c\x53\xbb\x6b" not in content
    path = tmp_path / "recording"
    path.write_bytes(content)
    recording = Recording(path)
    assert recording.duration == pytest.approx(duration, abs=0.2)
    assert duration > 1 and not recording.truncated
    # A beep of the first second and one of the next.
    whole = recording.read(0, duration)
    for half in whole.split(-(-len(whole) // 2)):
        assert half.abs().max() > 0.1
