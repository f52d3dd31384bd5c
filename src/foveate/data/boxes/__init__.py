"""Images with boxes: COCO's and Pascal VOC's annotations, checked before anything is trained."""
