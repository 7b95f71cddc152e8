"""A small corpus in the layout of ICBHI, as its mirror has it.

Authors
 * qlung_plugin contributors
"""

import numpy as np
import soundfile

RATE = 4000
# One cycle of each label, one second each.
CYCLES = "0\t1\t0\t0\n1\t2\t1\t0\n2\t3\t0\t1\n3\t4\t1\t1\n"
SPLIT = "ICBHI_challenge_train_test.txt"
FOLDS = "patient_list_foldwise.txt"
PEOPLE = "demographic_info.txt"
AUDIO = "audio_and_txt_files"

# Eight patients on the training side, two on the test side, 401 on both.
TRAIN = [f"{patient}_1b1_Al_sc_Meditron" for patient in range(201, 209)]
TRAIN += ["401_1b1_Al_sc_Meditron"]
TEST = ["301_1b1_Tc_mc_Litt3200", "302_1b1_Tc_mc_Litt3200"]
TEST += ["401_2b1_Al_sc_Meditron"]
SIDES = {**dict.fromkeys(TRAIN, "train"), **dict.fromkeys(TEST, "test")}


def write_recordings(folder, names, wav=".wav", txt=".txt"):
    folder.mkdir(parents=True, exist_ok=True)
    samples = np.random.default_rng(0).uniform(-0.5, 0.5, 4 * RATE)
    for name in names:
        path = folder / f"{name}{wav}"
        soundfile.write(path, samples, RATE, format="WAV", subtype="PCM_16")
        (folder / f"{name}{txt}").write_text(CYCLES)


def write_split(path, sides=SIDES):
    lines = [f"{name}\t{side}\n" for name, side in sides.items()]
    path.write_text("".join(lines))


def write_corpus(data, names=SIDES):
    write_recordings(data / AUDIO, names)
    write_split(data / SPLIT)
    patients = sorted({name.split("_")[0] for name in names})
    lines = [f"{patient} 3 F NA 19 99\n" for patient in patients]
    (data / PEOPLE).write_text("\n" + "".join(lines))


def the_warning(warnings, words):
    """The only one with these words."""
    (warning,) = [warning for warning in warnings if words in warning]
    return warning
