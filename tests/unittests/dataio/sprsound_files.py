"""A small corpus in the layouts of SPRSound.

Authors
 * qlung_plugin contributors
"""

import json

RATE = 8000
TYPES = (
    "Normal",
    "Fine Crackle",
    "Coarse Crackle",
    "Wheeze",
    "Rhonchi",
    "Stridor",
    "Wheeze+Crackle",
)


def layout(train, test):
    """Folders of audio and annotations by partition; ``{}`` is wav or json."""
    folders = {"train": (train, train)}
    for name in ("inter", "intra"):
        folders[name] = (test, f"{test}/{name}_test_json")
    return {
        name: (audio.format("wav"), text.format("json"))
        for name, (audio, text) in folders.items()
    }


# The three published layouts, and the one between the last two.
LAYOUTS = {
    "2022": layout("train_{}", "test_{}"),
    "later": layout(
        "Classification/train_classification_{}",
        "Classification/valid_classification_{}/2022",
    ),
    "between": layout(
        "Classification/train_classification_{}",
        "Classification/test_classification_{}/2022",
    ),
    "newest": layout("BioCAS2022/train2022_{}", "BioCAS2022/test2022_{}"),
}
# Eight patients in train, two of them in intra, two others in inter.
NAMES = {
    "train": [f"4000000{i}_5.{i}_{i % 2}_p1_{i}" for i in range(1, 9)],
    "intra": ["40000001_5.1_1_p2_11", "40000002_5.2_0_p3_12"],
    "inter": ["65000001_0.4_0_p4_21", "65000002_16.2_1_p4_22"],
}
EVERY = [(1000 * i, 1000 * i + 900, kind) for i, kind in enumerate(TYPES)]


def as_json(events, annotation="Normal"):
    events = [
        {"start": str(start), "end": str(end), "type": kind}
        for start, end, kind in events
    ]
    content = {"record_annotation": annotation, "event_annotation": events}
    return json.dumps(content)


def write_corpus(data, write_wav, layout="2022", wav=".wav", text=".json"):
    """All types are in every recording."""
    for partition, (audio, annotations) in LAYOUTS[layout].items():
        (data / audio).mkdir(parents=True, exist_ok=True)
        (data / annotations).mkdir(parents=True)
        for name in NAMES[partition]:
            write_wav(data / audio / f"{name}{wav}")
            (data / annotations / f"{name}{text}").write_text(as_json(EVERY))


def json_of(data, partition, index=0, layout="2022"):
    folder = data / LAYOUTS[layout][partition][1]
    return folder / f"{NAMES[partition][index]}.json"


def wav_of(data, partition, index=0, layout="2022"):
    folder = data / LAYOUTS[layout][partition][0]
    return folder / f"{NAMES[partition][index]}.wav"
