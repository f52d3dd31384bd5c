"""Medical data: nobody on two sides, volumes turned the same way, and what cannot be used is said."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from foveate.data.medical.folder import subject_folder
from foveate.data.medical.scans import read_scan
from foveate.data.medical.sides import patients
from foveate.errors import DataError

np = pytest.importorskip("numpy")
nibabel = pytest.importorskip("nibabel")
pydicom = pytest.importorskip("pydicom")
PIL = pytest.importorskip("PIL.Image")


def nifti(path: Path, array: Any, affine: Any = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(array, np.eye(4) if affine is None else affine), path)


def picture(path: Path, array: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    PIL.fromarray(array).save(path)


def slice_(
    path: Path, stored: Any, *, z: float = 0.0, patient: str = "P1", kind: str = "MONOCHROME2", **more: Any
) -> None:
    """A CT slice in the patient's axial plane, rows 2 mm and columns 1 mm apart."""
    path.parent.mkdir(parents=True, exist_ok=True)
    meta = pydicom.dataset.FileMetaDataset()
    meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = pydicom.uid.CTImageStorage, "1.2.3.4"
    header = pydicom.dataset.FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    header.PatientID, header.SeriesInstanceUID = patient, "1.2.3"
    header.Rows, header.Columns = stored.shape
    header.SamplesPerPixel, header.PhotometricInterpretation = 1, kind
    header.BitsAllocated, header.BitsStored, header.HighBit, header.PixelRepresentation = 16, 12, 11, 0
    header.ImageOrientationPatient, header.ImagePositionPatient = [1, 0, 0, 0, 1, 0], [10, 20, z]
    header.PixelSpacing = [2, 1]
    for name, value in more.items():
        setattr(header, name, value)
    header.PixelData = stored.astype("<u2").tobytes()
    header.save_as(path, enforce_file_format=True)


def folder_of_subjects(root: Path, count: int = 6, axes: int = 2) -> None:
    """Subjects whose images have their number in them, each with a mask of one voxel."""
    for number in range(count):
        array = np.full((6, 8, 4)[:axes], number + 1, dtype=np.uint8)
        array.flat[0] = 0
        mask = np.zeros_like(array)
        mask.flat[-1] = 1
        write, suffix = (picture, "png") if axes == 2 else (nifti, "nii.gz")
        write(root / f"p{number}" / f"image.{suffix}", array)
        write(root / f"p{number}" / f"mask.{suffix}", mask)


def sides(data: Any) -> dict[str, set[str]]:
    return {split: set(getattr(data, split).subjects) for split in ("train", "validation", "test")}


# patients


def test_what_shares_an_identifier_also_by_way_of_others_is_one_patient() -> None:
    assert patients([{"a"}, {"b"}, {"c"}, {"b", "c"}, {"c", "a"}, {"d"}]) == [0, 0, 0, 0, 0, 1]


def test_slices_of_a_volume_stay_on_one_side(tmp_path: Path) -> None:
    folder_of_subjects(tmp_path, 7, axes=3)
    data = subject_folder(tmp_path, dimensions=2)
    found = sides(data)
    assert sum(len(getattr(data, split)) for split in found) == 7, "planes of one value hold nothing to see"
    assert (
        not found["train"] & found["validation"] | found["train"] & found["test"] | found["validation"] & found["test"]
    )


def test_several_images_of_a_subject_are_dealt_as_one(tmp_path: Path) -> None:
    for number in range(24):
        array = np.random.default_rng(number).integers(0, 255, (8, 8), dtype=np.uint8)
        picture(tmp_path / "images" / f"sub-{number // 4}_scan-{number}.png", array)
        picture(tmp_path / "masks" / f"sub-{number // 4}_scan-{number}.png", (array > 99).astype(np.uint8))
    for seed in range(5):
        found = sides(subject_folder(tmp_path, seed=seed))
        assert sum(map(len, found.values())) == 6
    picture(tmp_path / "images" / "other.png", array)
    picture(tmp_path / "masks" / "other.png", (array > 99).astype(np.uint8))
    data = subject_folder(tmp_path)
    assert any("other" in warning and "sub-5" in warning for warning in data.report.warnings), "a copy: one patient"
    assert sum(map(len, sides(data).values())) == 6


def test_split_folders_with_a_patient_on_both_sides_are_refused_by_name(tmp_path: Path) -> None:
    for split, numbers in {"train": (1, 2), "val": (3,), "test": (4, 2)}.items():
        for number in numbers:
            array = np.random.default_rng([len(split), number]).integers(0, 255, (8, 8), dtype=np.uint8)
            picture(tmp_path / split / f"p{number}" / "image.png", array)
            picture(tmp_path / split / f"p{number}" / "mask.png", (array > 99).astype(np.uint8))
    with pytest.raises(
        DataError, match=r"test/p2/image.png in test and train/p2/image.png in train \(both subject p2\)"
    ):
        subject_folder(tmp_path)


def test_one_patient_id_under_two_names_is_found(tmp_path: Path) -> None:
    pixels = np.arange(64).reshape(8, 8)
    for number in range(4):
        slice_(
            tmp_path / f"s{number}" / "image.dcm", pixels + number, patient="P7" if number in (1, 3) else f"P{number}"
        )
        picture(tmp_path / f"s{number}" / "mask.png", (pixels > 30).astype(np.uint8))
    (tmp_path / "splits.csv").write_text("subject,split\ns0,train\ns1,train\ns2,val\ns3,test\n")
    with pytest.raises(DataError, match=r"s1/image.dcm in train and s3/image.dcm in test \(both PatientID P7\)"):
        subject_folder(tmp_path)
    (tmp_path / "splits.csv").write_text("subject,split\ns0,train\ns1,test\ns2,val\ns3,test\n")
    assert sides(subject_folder(tmp_path)) == {"train": {"s0"}, "validation": {"s2"}, "test": {"s1"}}


def test_an_anonymous_patient_id_joins_nobody(tmp_path: Path) -> None:
    pixels = np.arange(64).reshape(8, 8)
    for number in range(4):
        slice_(tmp_path / "images" / f"{number}.dcm", pixels + number, patient="ANONYMOUS")
        picture(tmp_path / "masks" / f"{number}.png", (pixels > 30).astype(np.uint8))
    data = subject_folder(tmp_path)
    assert sum(map(len, sides(data).values())) == 4
    assert data.report.whose.startswith("nothing says which images are of one patient")
    slice_(tmp_path / "images" / "3.dcm", pixels + 3, patient="P3")
    assert "nothing says whose 3 of the images are" in subject_folder(tmp_path).report.whose
    for number in range(3):
        slice_(tmp_path / "images" / f"{number}.dcm", pixels + number, patient=f"P{number}")
    assert subject_folder(tmp_path).report.whose == "4 patients by subject, PatientID and content"


def test_a_table_says_whose_an_image_is_and_must_not_contradict_itself(tmp_path: Path) -> None:
    for number in range(8):
        array = np.random.default_rng(number).integers(0, 255, (8, 8), dtype=np.uint8)
        picture(tmp_path / "images" / f"{number}.png", array)
        picture(tmp_path / "masks" / f"{number}.png", (array > 99).astype(np.uint8))
    rows = [f"{number}.png,person{number // 2}" for number in range(8)]
    (tmp_path / "subjects.csv").write_text("\n".join(["file,subject", *rows]))
    assert sum(map(len, sides(subject_folder(tmp_path)).values())) == 4
    (tmp_path / "subjects.csv").write_text("\n".join(["file,subject", *rows, "3.png,person9"]))
    with pytest.raises(DataError, match=r"gives 3\.png two values for subject: person1 and person9"):
        subject_folder(tmp_path)


# classes


def test_classes_of_patients_are_dealt_each_on_their_own(tmp_path: Path) -> None:
    for number in range(12):
        array = np.random.default_rng(number).integers(0, 255, (8, 8), dtype=np.uint8)
        picture(tmp_path / f"p{number}" / "a.png", array)
        picture(tmp_path / f"p{number}" / "b.png", array.T)
    rows = [f"p{number},{'ill' if number < 4 else 'well'}" for number in range(11)]
    (tmp_path / "labels.csv").write_text("\n".join(["subject,label", *rows]))
    data = subject_folder(tmp_path)
    assert (data.task, data.classes) == ("classification", ("ill", "well"))
    assert [ones["ill"] for ones in data.report.counts.values()] == [2, 1, 1]
    assert [str(one) for one in data.report.skipped] == [
        f"p11/{name}.png has no label: labels.csv does not name its subject" for name in "ab"
    ]
    assert {int(data.test[n][1].truth) for n in range(len(data.test))} == {0, 1}


def test_numbers_of_masks_become_classes_in_their_order(tmp_path: Path) -> None:
    for number in range(4):
        array = np.full((4, 4), 50 + number, dtype=np.uint8)
        mask = np.array([[0, 0, 4, 4], [9, 9, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]], dtype=np.uint8)
        picture(tmp_path / "images" / f"{number}.png", array)
        picture(tmp_path / "masks" / f"{number}.png", mask)
    data = subject_folder(tmp_path)
    assert data.classes == ("background", "4", "9")
    assert data.train[0][1].truth[:2].tolist() == [[0, 0, 1, 1], [2, 2, 0, 0]]
    assert subject_folder(tmp_path, binary=True).train[0][1].truth[:2].tolist() == [[0, 0, 1, 1], [1, 1, 0, 0]]
    (tmp_path / "classes.csv").write_text("id,name\n2,cyst\n4,tumour\n9,vessel\n")
    named = subject_folder(tmp_path)
    assert named.classes == ("background", "cyst", "tumour", "vessel")
    assert named.train[0][1].truth[:2].tolist() == [[0, 0, 2, 2], [3, 3, 0, 0]]
    (tmp_path / "classes.csv").write_text("id,name\n4,tumour\n")
    with pytest.raises(DataError, match=r"numbers that classes\.csv does not name: \[9\]"):
        subject_folder(tmp_path)


def test_grey_images_among_coloured_ones_are_repeated(tmp_path: Path) -> None:
    folder_of_subjects(tmp_path, 4)
    picture(tmp_path / "p2" / "image.png", np.random.default_rng(0).integers(0, 255, (6, 8, 3), dtype=np.uint8))
    data = subject_folder(tmp_path)
    images = [image for split in (data.train, data.validation, data.test) for image, _ in split]
    assert {image.shape for image in images} == {(3, 6, 8)}
    assert data.report.conversions["grey repeated to three channels"] == 3


# volumes


def test_axes_are_turned_to_right_front_top(tmp_path: Path) -> None:
    """Stored from left to right as z, x, -y with sides of 2, 3 and 4 mm: voxel (i, j, k) is at x=3j, y=-4k, z=2i."""
    values = np.random.default_rng(0).normal(size=(5, 6, 7)).astype(np.float32)
    affine = np.array([[0, 3, 0, 0], [0, 0, -4, 0], [2, 0, 0, 0], [0, 0, 0, 1.0]])
    nifti(tmp_path / "a.nii.gz", values, affine)
    scan = read_scan(tmp_path / "a.nii.gz")
    expected = np.empty((6, 7, 5), dtype=np.float32)
    for i in range(5):
        for j in range(6):
            for k in range(7):
                expected[j, 6 - k, i] = values[i, j, k]
    np.testing.assert_array_equal(scan.values[0].numpy(), expected)
    assert scan.spacing == (3.0, 4.0, 2.0)


def test_a_series_is_ordered_by_place_rescaled_and_turned(tmp_path: Path) -> None:
    """Files named against the order of the slices; DICOM's x and y point left and back."""
    stored = np.random.default_rng(1).integers(0, 4096, (3, 4, 5))  # slice, row, column
    for number, name in enumerate("cab"):
        slice_(tmp_path / f"{name}.dcm", stored[number], z=2.5 * number, RescaleSlope=2, RescaleIntercept=-1024)
    (tmp_path / "notes.txt").write_text("not a slice")
    scan = read_scan(tmp_path)
    expected = np.empty((5, 4, 3))
    for z in range(3):
        for row in range(4):
            for column in range(5):
                expected[4 - column, 3 - row, z] = stored[z, row, column] * 2 - 1024
    np.testing.assert_array_equal(scan.values[0].numpy(), expected)
    assert scan.spacing == (1.0, 2.0, 2.5)
    assert scan.patient == "P1"


def test_a_missing_slice_and_two_series_in_a_folder_are_said(tmp_path: Path) -> None:
    for number in (0, 1, 3, 4):
        slice_(tmp_path / "gap" / f"{number}.dcm", np.ones((4, 4)), z=number)
        slice_(tmp_path / "two" / f"{number}.dcm", np.ones((4, 4)), z=number, SeriesInstanceUID=f"1.{number}")
    with pytest.raises(DataError, match="slices 1 to 2 mm apart: some are missing"):
        read_scan(tmp_path / "gap")
    with pytest.raises(DataError, match=r"different SeriesInstanceUID \(4\)"):
        read_scan(tmp_path / "two")


def test_monochrome1_is_inverted(tmp_path: Path) -> None:
    slice_(tmp_path / "a.dcm", np.array([[0, 1], [100, 4095]]), kind="MONOCHROME1")
    assert read_scan(tmp_path / "a.dcm").values.tolist() == [[[4095.0, 4094.0], [3995.0, 0.0]]]
    assert read_scan(tmp_path / "a.dcm").spacing == (2.0, 1.0)


# what cannot be used


def test_everything_that_cannot_be_used_is_reported_and_the_rest_read(tmp_path: Path) -> None:
    folder_of_subjects(tmp_path, 4)
    good = np.arange(48, dtype=np.uint8).reshape(6, 8)
    mask = np.ones((6, 8), dtype=np.uint8)
    broken: dict[str, str] = {}

    def bad(name: str, reason: str) -> Path:
        broken[name], folder = reason, tmp_path / name.split("/")[0]
        picture(folder / "mask.png", mask)
        return folder / name.split("/")[1]

    slice_(bad("short/image.dcm", "has pixels that cannot be decoded here"), good)
    content = (tmp_path / "short" / "image.dcm").read_bytes()
    (tmp_path / "short" / "image.dcm").write_bytes(content[:-20])
    path = bad("packed/image.dcm", "is compressed as JPEG 2000")
    slice_(path, good)
    header = pydicom.dcmread(path)
    header.file_meta.TransferSyntaxUID = pydicom.uid.JPEG2000Lossless
    header.PixelData = pydicom.encaps.encapsulate([b"\xff\x4f nothing"])
    header["PixelData"].is_undefined_length = True
    header.save_as(path)
    slice_(bad("frames/image.dcm", "holds 7 frames"), good, NumberOfFrames=7)
    slice_(bad("deflated/image.dcm", "is deflated as a whole"), good)
    header = pydicom.dcmread(tmp_path / "deflated" / "image.dcm")
    header.file_meta.TransferSyntaxUID = pydicom.uid.DeflatedExplicitVRLittleEndian
    header.save_as(tmp_path / "deflated" / "image.dcm")
    bad("noise/image.dcm", "is DICOM without an image").write_bytes(b"\0" * 128 + b"DICM" + b"\xff" * 40)
    bad("empty/image.nii.gz", "is empty").write_bytes(b"")
    bad("cut/image.nii", "is not NIfTI, or damaged")
    nifti(tmp_path / "cut" / "image.nii", np.ones((20, 20, 20)))
    (tmp_path / "cut" / "image.nii").write_bytes((tmp_path / "cut" / "image.nii").read_bytes()[:5000])
    header = nibabel.Nifti1Header()
    header.set_data_shape((30000, 30000, 30000))
    bad("bomb/image.nii", "27,000,000,000,000 voxels").write_bytes(header.binaryblock + b"\0" * 100)
    picture(bad("size/image.png", "has a mask of another size: 6×8 instead of 6×9"), np.ones((6, 9), dtype=np.uint8))
    picture(tmp_path / "alone" / "image.png", good)
    broken["alone/image.png"] = "has no mask"

    data = subject_folder(tmp_path)
    assert {one.name for one in data.report.skipped} == set(broken)
    for one in data.report.skipped:
        assert broken[one.name] in one.reason, str(one)
    assert data.report.as_dict()["skipped"]
    assert sum(map(len, sides(data).values())) == 4
    with pytest.raises(DataError, match="alone/image.png has no mask"):
        subject_folder(tmp_path, on_error="stop")


def test_a_mask_that_lies_elsewhere_is_left_out(tmp_path: Path) -> None:
    folder_of_subjects(tmp_path, 5, axes=3)
    moved = np.diag([1.0, 1.0, 1.0, 1.0])
    moved[0, 3] = 5
    nifti(tmp_path / "p1" / "mask.nii.gz", np.ones((6, 8, 4), dtype=np.uint8), moved)
    assert [str(one) for one in subject_folder(tmp_path).report.skipped] == [
        "p1/image.nii.gz has a mask that lies elsewhere, by up to 5.0 mm"
    ]


def test_instances_are_not_taken_for_classes(tmp_path: Path) -> None:
    folder_of_subjects(tmp_path, 4)
    PIL.fromarray(np.arange(48, dtype=np.uint16).reshape(6, 8) * 3).save(tmp_path / "p2" / "mask.png")
    picture(tmp_path / "p3" / "mask.png", np.arange(48, dtype=np.uint8).reshape(6, 8))
    with pytest.raises(DataError, match="choose binary=true"):
        subject_folder(tmp_path)
    assert subject_folder(tmp_path, binary=True).classes == ("background", "foreground")


def test_the_fingerprint_changes_with_images_masks_and_options(tmp_path: Path) -> None:
    folder_of_subjects(tmp_path, 5)
    first = subject_folder(tmp_path).fingerprint
    assert subject_folder(tmp_path).fingerprint == first
    assert subject_folder(tmp_path, binary=True).fingerprint != first
    picture(tmp_path / "p0" / "mask.png", np.ones((6, 8), dtype=np.uint8))
    assert subject_folder(tmp_path).fingerprint != first


def test_images_that_do_not_fit_into_memory_are_read_when_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder_of_subjects(tmp_path, 5, axes=3)
    kept = subject_folder(tmp_path, dimensions=2)
    monkeypatch.setattr("foveate.data.medical.cases.MEMORY_LIMIT", 0)
    read = subject_folder(tmp_path, dimensions=2)
    for one, other in zip(kept.train, read.train, strict=True):
        assert torch.equal(one[0], other[0])
        assert torch.equal(one[1].truth, other[1].truth)
    changed = tmp_path / read.train.names[0].split("#")[0]
    nifti(changed, np.ones((6, 8, 4), dtype=np.uint8))
    with pytest.raises(DataError, match="has changed since the folder was read"):
        read.train[0]


# the sample


def test_synthetic_brains_are_functions_of_seed_and_subject_and_say_what_they_are() -> None:
    pytest.importorskip("nilearn")
    from foveate.data.medical.brains import subject, synthetic_brains

    few = {"train": 2, "validation": 1, "test": 1}
    data = synthetic_brains(subjects=few)
    assert "synthetic" in data.name
    assert all(name.startswith("synthetic-") for name in data.train.names)
    assert not set(data.train.subjects) & set(data.test.subjects)
    torch.manual_seed(5)
    assert torch.equal(subject(1)[0], subject(1)[0])
    assert not torch.equal(subject(1)[0], subject(2)[0])
    assert not torch.equal(subject(1, seed=1)[0], subject(1)[0])
    image, target = data.train[0]
    assert image.shape[1:] == target.truth.shape
    assert set(target.truth.unique().tolist()) == {0, 1, 2, 3}
    assert len(synthetic_brains(dimensions=3, subjects=few).test) == 1
