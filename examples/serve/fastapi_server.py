"""Serve an exported classifier with FastAPI.

pip install 'transxnet[export]' fastapi uvicorn python-multipart
MODEL=elpv-1.onnx uvicorn fastapi_server:app --port 8000
curl -F images=@a.png -F images=@b.png http://127.0.0.1:8000/predict
"""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

from fastapi import FastAPI, File, HTTPException, UploadFile
from starlette.concurrency import run_in_threadpool

import transxnet
from transxnet.data.reading.image_decoding import UnreadableImage, open_image

MAX_IMAGES, MAX_PIXELS = 32, 50_000_000


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Load the model once, and compare it with its reference image before the first request."""
    transxnet.verify(os.environ["MODEL"])
    app.state.model = transxnet.load(os.environ["MODEL"])
    yield


app = FastAPI(title="transxnet", lifespan=lifespan)


@app.post("/predict")
async def predict(images: Annotated[list[UploadFile], File()]) -> list[dict[str, Any]]:
    """Classify one or more uploaded images."""
    if len(images) > MAX_IMAGES:
        raise HTTPException(413, f"{len(images)} images were sent. Accepted: at most {MAX_IMAGES} in one request.")
    try:
        decoded = [open_image(await image.read(), max_pixels=MAX_PIXELS) for image in images]
    except UnreadableImage as error:
        raise HTTPException(422, f"an image cannot be read: {error}") from error
    results = await run_in_threadpool(app.state.model.predict, decoded)
    return [{"class": result.label, "probability": result.score} for result in results]
