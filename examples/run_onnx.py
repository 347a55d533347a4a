"""Run what ``botvision export RUN --format onnx`` wrote on a photograph: python run_onnx.py model.onnx photo.jpg."""

import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image, ImageOps

if len(sys.argv) != 3 or not all(Path(name).is_file() for name in sys.argv[1:]):
    sys.exit(f"usage: python run_onnx.py model.onnx photo.jpg, two files that are there; got {sys.argv[1:]}")
session = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
about = json.loads(session.get_modelmeta().custom_metadata_map["botvision"])
if about["in_channels"] is not None:
    sys.exit(
        f"the model takes images of {about['in_channels']} channels with the numbers of their files, no photographs"
    )
photo, side = ImageOps.exif_transpose(Image.open(sys.argv[2])), about["input_size"]
if photo.mode not in ("RGB", "L", "CMYK", "P") or "transparency" in photo.info:
    sys.exit(f"{sys.argv[2]}: pixels of the kind {photo.mode}, or transparent ones, have to be made RGB first")
photo = original = photo.convert("RGB")
is_detector = about["task"] == "detection"
if is_detector:
    scale = about["longer_side"] / max(photo.size)
    size = [max(1, round(length * scale)) for length in photo.size]
    corner = (0, 0)
else:  # the centre of the photograph
    size = [about["shorter_side"] * length // min(photo.size) for length in photo.size]
    corner = tuple(-round((length - side) / 2) for length in size)
photo = photo.resize(size, Image.Resampling.BILINEAR)
frame = Image.new("RGB", (side, side), tuple(map(int, about.get("padding_colour", (0, 0, 0)))))
frame.paste(photo, corner)
pixels = (np.asarray(frame, np.float32) - about["mean"]) / about["std"]
inputs = {"images": pixels.transpose(2, 0, 1)[None].astype(np.float32)}
if is_detector:  # it is told where the padding begins, at the bottom and right
    inputs["content_size"] = np.array([[photo.height, photo.width]])
found = dict(zip([output.name for output in session.get_outputs()], session.run(None, inputs), strict=True))

names = about.get("class_names")
if is_detector:
    factors = np.array([original.width / photo.width, original.height / photo.height] * 2)
    for box, label, score in zip(found["boxes"][0] * factors, found["labels"][0], found["scores"][0], strict=True):
        if score > 0.5:
            print(f"{score:.3f} {box.round(1).tolist()} {names[label - 1]}")
elif about["task"] == "features":
    for name, maps in found.items():
        print(name, maps.shape)
else:
    chances = np.exp(found["logits"][0] - found["logits"][0].max())
    for index in np.argsort(-chances)[:5]:
        print(f"{chances[index] / chances.sum():.3f} {names[index] if names else index}")
