"""ultralytics without network, and with its settings in a folder that goes away."""

import atexit
import os
import shutil
import tempfile

# before anything imports it: it looks for the network and for its settings at import
os.environ["YOLO_OFFLINE"] = "1"
os.environ["YOLO_AUTOINSTALL"] = "0"
if "YOLO_CONFIG_DIR" not in os.environ:
    os.environ["YOLO_CONFIG_DIR"] = tempfile.mkdtemp()
    atexit.register(shutil.rmtree, os.environ["YOLO_CONFIG_DIR"], ignore_errors=True)
