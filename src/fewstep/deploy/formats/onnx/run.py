"""Acting with onnxruntime, on one thread: a policy's products are too small to share."""

import json
from pathlib import Path
from typing import Any

from fewstep.deploy.formats import checked_bytes as sealed
from fewstep.deploy.formats.extras import need
from fewstep.deploy.formats.onnx import write as onnx_model
from fewstep.deploy.program.description import Description
from fewstep.deploy.program.program import NOISE, OBS, FloatArray
from fewstep.deploy.runtime import DeployedPolicy
from fewstep.errors import FewstepError


class OnnxPolicy(DeployedPolicy):
    """A policy that onnxruntime carries out.

    Attributes:
        session: the ``onnxruntime.InferenceSession``.
    """

    def __init__(self, path: Path, seed: int | None = None) -> None:
        """Open what ``fewstep export --to onnx`` wrote.

        ``seed`` decides the draws of a policy whose noise is ``inside``; None takes fresh entropy.

        Raises:
            UsageError: onnxruntime is not installed.
            FewstepError: the file is something else, damaged, or of another format version.
        """
        content = path.read_bytes()
        sealed.require_whole(content, path)
        self.session = session = _session(content, path)
        about = _description(session, path)
        sizes = {port.name: int(port.shape[-1]) for port in session.get_inputs()}
        (action,) = session.get_outputs()
        outputs = [action.name]

        def run(obs: FloatArray, noise: FloatArray | None) -> Any:
            feed = {OBS: obs if obs.ndim == 2 else obs[None]}
            if noise is not None:
                feed[NOISE] = noise if noise.ndim == 2 else noise[None]
            return session.run(outputs, feed)[0]

        super().__init__(about, (sizes[OBS], sizes.get(NOISE, 0), int(action.shape[-1])), run, seed)


def _session(content: bytes, path: Path) -> Any:
    ort = need("onnxruntime", "onnx")
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    try:
        return ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's own classes, which share no base but this one
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise FewstepError(f"onnxruntime does not open {path}: {reason}") from error


def _description(session: Any, path: Path) -> Description:
    header = json.loads(session.get_modelmeta().custom_metadata_map[onnx_model.METADATA])
    if header["format"] != onnx_model.FORMAT:
        raise FewstepError(
            f"{path} has format {header['format']}; this fewstep reads format {onnx_model.FORMAT}; "
            "export it again"
        )
    return Description.from_json(header["description"])
