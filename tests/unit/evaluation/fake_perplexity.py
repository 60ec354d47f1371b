#!/usr/bin/env python3
"""Stands in for llama-perplexity: same options, same forms of output, no model.

What it does depends on words in the name of the model: `fails`, `nan`, `dies`, `mute`, `slow`; else it goes well.
"""

import os
import signal
import sys
import time
from pathlib import Path

VOCABULARY = 40
CHUNKS = 3
KLD = {"eoq4": 0.0271, "iq4": 0.0612}


def option(name: str, default: str = "") -> str:
    return sys.argv[sys.argv.index(name) + 1] if name in sys.argv else default


def say(text: str) -> None:
    print(text, flush=True)


def base(context: int, model: str) -> None:
    if (tokens := len(Path(option("-f")).read_text().split())) < 2 * context:
        say(f"0.00.2 E perplexity: you need at least {2 * context} tokens to evaluate perplexity with this context")
        say(f"0.00.3 E perplexity: the data file you provided tokenizes to only {tokens} tokens")
        sys.exit(1)
    chunks = min(CHUNKS, int(option("--chunks", "99")))
    say(f"0.00.794.296 I perplexity: calculating perplexity over {chunks} chunks, n_ctx={context}, batch_size=2048")
    if "slow" in model:
        time.sleep(60)
    scored = chunks * (context - 1 - context // 2)
    size = 20 + 4 * chunks * context + scored * 2 * (VOCABULARY + 4)
    Path(option("--save-all-logits")).write_bytes(b"_logits_".ljust(size // 2 if "mute" in model else size, b"\0"))
    say("0.06.9 I perplexity: 6.16 seconds per pass - ETA 0.02 minutes")
    say("".join(f"[{i + 1}]{20 + i}.1234," for i in range(chunks)) + "\n")
    say("0.07.156.197 I Final estimate: PPL = 20.0000 +/- 1.50000")


def divergence(context: int, model: str) -> None:
    assert Path(option("--kl-divergence-base")).stat().st_size > 20
    say(f"0.03.500.042 I kl_divergence: computing over {CHUNKS} chunks, n_ctx={context}, batch_size=2048, n_seq=8")
    if "slow" in model:
        time.sleep(60)
    if "mute" in model:
        say("0.04.1 E kl_divergence: failed reading log-probs for chunk 1")
        return
    for i in range(CHUNKS):
        say(f"{i + 1:4}     21.0000 ±    1.6000      0.00100 ±    0.00200      0.03000 ±    0.00100     3.1 ±  0.2 %")
    kld = next((value for word, value in KLD.items() if word in model), 0.1)
    shown = "nan" if "nan" in model else f"{kld:.6f}"
    say(f"""
====== Perplexity statistics ======
Mean PPL(Q)                   :  21.000000 ±   1.600000
Mean PPL(base)                :  19.900000 ±   1.400000
Mean ln(PPL(Q)/PPL(base))     :   0.053800 ±   0.010000
Mean PPL(Q)/PPL(base)         :   1.055276 ±   0.010553
====== KL divergence statistics ======
Mean    KLD:   {shown} ±   0.001200
Maximum KLD:   1.500000
99.9%   KLD:   0.900000
99.0%   KLD:   0.400000
Median  KLD:   0.020000
 0.1%   KLD:  -0.000042
====== Token probability statistics ======
Mean    Δp: -0.210 ± 0.050 %
RMS Δp    :  3.100 ± 0.200 %
Same top p: 91.250 ± 0.750 %
""")


def main() -> None:
    model = Path(option("-m")).name
    with Path(__file__).with_name("calls.txt").open("a") as calls:
        calls.write(" ".join(sys.argv[1:]) + "\n")
    print("0.00.003.954 I cmn  init: threadpool", file=sys.stderr, flush=True)
    if "fails" in model:
        print("0.00.006.158 E llama_model_load: error loading model: tensor 'a' is missing", file=sys.stderr)
        print("0.00.006.355 E llama_perplexity: unable to load model", file=sys.stderr)
        sys.exit(1)
    if "dies" in model:
        os.kill(os.getpid(), signal.SIGKILL)
    context = int(option("-c"))
    divergence(context, model) if "--kl-divergence" in sys.argv else base(context, model)


if __name__ == "__main__":
    main()
