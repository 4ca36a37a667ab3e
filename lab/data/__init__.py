"""Data sets as uint8 tensors on the device; batches are selected, resized and normalised there."""

from lab.data.batches import Batches
from lab.data.errors import DataError
from lab.data.loading import load_data
from lab.data.published import DATA_DIR_VARIABLE, PUBLISHED
from lab.data.sets import DataSet, Images, Splits
from lab.data.sources import default_data_dir

__all__ = [
    "DATA_DIR_VARIABLE",
    "PUBLISHED",
    "Batches",
    "DataError",
    "DataSet",
    "Images",
    "Splits",
    "default_data_dir",
    "load_data",
]
