//! Pictures written as files, and what headers of files tell.

#![allow(clippy::unwrap_used)] // a test may panic

use std::path::PathBuf;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BinaryArray, StructArray};
use arrow::datatypes::{DataType, Field, Int32Type, Schema};
use arrow::record_batch::RecordBatch;
use sparkdl_core::image::{decode_images, encode_images, image_info};

fn fixture(name: &str) -> Vec<u8> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/fixtures/pictures");
    std::fs::read(PathBuf::from(folder).join(name)).unwrap()
}

/// Every picture file of the fixtures, by name.
fn all() -> Vec<String> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/fixtures/pictures");
    let names =
        std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> =
        names.filter(|name| !name.ends_with(".json") && !name.ends_with(".bin")).collect();
    names.sort();
    names
}

fn batch(array: ArrayRef) -> RecordBatch {
    let schema = Schema::new(vec![Field::new("picture", array.data_type().clone(), true)]);
    RecordBatch::try_new(Arc::new(schema), vec![array]).unwrap()
}

fn files(files: &[Vec<u8>]) -> RecordBatch {
    batch(Arc::new(BinaryArray::from_iter_values(files)))
}

fn pairs(options: &[(&str, &str)]) -> Vec<(String, String)> {
    options.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

fn decoded(batch: &RecordBatch) -> StructArray {
    let options = [
        ("height", "0"),
        ("width", "0"),
        ("scaleHint", "SCALE_DEFAULT"),
        ("resizeMode", "stretch"),
        ("maxPixels", "89478485"),
        ("applyExifOrientation", "false"),
        ("fastDecode", "false"),
        ("threads", "2"),
    ];
    let out = decode_images(batch, &pairs(&options)).unwrap();
    assert_eq!(out.column(1).null_count(), out.num_rows(), "{:?}", out.column(1));
    out.column(0).as_struct().clone()
}

fn number(images: &StructArray, field: &str, row: usize) -> i32 {
    images.column_by_name(field).unwrap().as_primitive::<Int32Type>().value(row)
}

fn samples(images: &StructArray, row: usize) -> &[u8] {
    images.column_by_name("data").unwrap().as_binary::<i32>().value(row)
}

fn encode(batch: &RecordBatch, format: &str, quality: &str) -> RecordBatch {
    let options = [
        ("format", format),
        ("quality", quality),
        ("maxPixels", "89478485"),
        ("applyExifOrientation", "false"),
        ("threads", "2"),
    ];
    encode_images(batch, &pairs(&options)).unwrap()
}

fn written(batch: &RecordBatch, format: &str, quality: &str) -> Vec<Vec<u8>> {
    let out = encode(batch, format, quality);
    assert_eq!(out.column(1).null_count(), out.num_rows(), "{format}: {:?}", out.column(1));
    out.column(0).as_binary::<i32>().iter().map(|file| file.unwrap().to_vec()).collect()
}

#[test]
fn formats_without_loss_give_the_same_pixels_back() {
    let names = ["rgb.png", "grey.png", "rgba.png", "rgb_tall.png", "rgb_1x1.png", "cmyk.jpg"];
    let images = decoded(&files(&names.map(fixture)));
    for format in ["png", "bmp", "webp", "tiff"] {
        let structs = batch(Arc::new(images.clone()));
        let again = decoded(&files(&written(&structs, format, "95")));
        for (row, name) in names.iter().enumerate() {
            // The format's readers give grey as three equal channels where the format has no grey.
            let spread = number(&again, "nChannels", row) / number(&images, "nChannels", row);
            let own: Vec<u8> =
                samples(&images, row).iter().flat_map(|&level| vec![level; spread as usize]).collect();
            assert!(spread == 1 || name == &"grey.png", "{format} {name}");
            assert_eq!(samples(&again, row), own, "{format} {name}");
        }
    }
}

#[test]
fn files_are_decoded_first_to_become_of_another_format() {
    let names = ["rgb.png", "rgb_420.jpg", "palette.gif"].map(fixture);
    let images = decoded(&files(&names));
    let again = decoded(&files(&written(&files(&names), "png", "95")));
    (0..names.len()).for_each(|row| assert_eq!(samples(&again, row), samples(&images, row)));
}

#[test]
fn jpeg_is_near_what_it_was_made_of_and_drops_alpha() {
    let names = ["large.jpg", "grey.png", "rgba.png"];
    let images = decoded(&files(&names.map(fixture)));
    let structs = batch(Arc::new(images.clone()));
    let (good, poor) = (written(&structs, "jpeg", "95"), written(&structs, "jpeg", "20"));
    let again = decoded(&files(&good));
    for (row, name) in names.iter().enumerate() {
        assert!(poor[row].len() < good[row].len(), "{name}: the quality is of no effect");
        let (before, after) = (number(&images, "nChannels", row), number(&again, "nChannels", row));
        assert_eq!(after, before.min(3), "{name}");
        let kept =
            samples(&images, row).chunks_exact(before as usize).flat_map(|pixel| &pixel[..after as usize]);
        let off: u64 = kept.zip(samples(&again, row)).map(|(a, b)| u64::from(a.abs_diff(*b))).sum();
        // Halved colours are far off where two colours meet in a picture of few pixels.
        let mean = off as f64 / samples(&again, row).len() as f64;
        assert!(mean < if *name == "large.jpg" { 3.0 } else { 12.0 }, "{name}: {mean}");
    }
}

#[test]
fn what_cannot_be_encoded_has_a_reason() {
    let floats = Arc::new(BinaryArray::from_iter_values([1.5f32.to_le_bytes()]));
    let int = |value: i32| Arc::new(arrow::array::Int32Array::from(vec![value])) as ArrayRef;
    let origin = Arc::new(arrow::array::StringArray::from(vec![""])) as ArrayRef;
    let columns: Vec<ArrayRef> = vec![origin, int(1), int(1), int(1), int(5), floats];
    let names = ["origin", "height", "width", "nChannels", "mode", "data"];
    let fields: Vec<Field> = names
        .iter()
        .zip(&columns)
        .map(|(name, column)| Field::new(*name, column.data_type().clone(), true))
        .collect();
    let image = StructArray::new(fields.into(), columns, None);
    let out = encode(&batch(Arc::new(image)), "png", "95");
    let reason = |out: &RecordBatch, row| out.column(1).as_string::<i32>().value(row).to_owned();
    assert!(out.column(0).is_null(0) && reason(&out, 0).contains("float samples"));
    let out = encode(&files(&[b"no picture".to_vec(), fixture("rgb.png")]), "jpeg", "95");
    assert!(out.column(0).is_null(0) && reason(&out, 0).starts_with("not a picture"));
    assert!(out.column(0).is_valid(1) && out.column(1).is_null(1));
    assert_eq!(encode(&files(&[]), "png", "95").num_rows(), 0);
}

#[test]
fn options_are_refused_by_name() {
    let refused = |format: &str, quality: &str| {
        let options = [
            ("format", format),
            ("quality", quality),
            ("maxPixels", "1"),
            ("applyExifOrientation", "false"),
            ("threads", "1"),
        ];
        encode_images(&files(&[]), &pairs(&options)).unwrap_err().message().to_owned()
    };
    assert_eq!(
        refused("gif", "95"),
        "The option format cannot be \"gif\"; it takes jpeg, png, bmp, webp, tiff."
    );
    assert!(refused("jpeg", "0").starts_with("The option quality cannot be \"0\""));
    assert!(refused("jpeg", "101").starts_with("The option quality cannot be \"101\""));
}

fn infos(batch: &RecordBatch) -> (StructArray, Vec<Option<String>>) {
    let out = image_info(batch, &pairs(&[("threads", "2")])).unwrap();
    let reasons = out.column(1).as_string::<i32>().iter().map(|reason| reason.map(str::to_owned)).collect();
    (out.column(0).as_struct().clone(), reasons)
}

#[test]
fn headers_tell_what_decoding_gives() {
    let names = all();
    assert!(names.len() > 50, "only {} pictures", names.len());
    let pictures: Vec<_> = names.iter().map(|name| fixture(name)).collect();
    let (images, (infos, reasons)) = (decoded(&files(&pictures)), infos(&files(&pictures)));
    for (row, name) in names.iter().enumerate() {
        assert_eq!(reasons[row], None, "{name}");
        for field in ["height", "width", "nChannels"] {
            assert_eq!(number(&infos, field, row), number(&images, field, row), "{name}: {field}");
        }
        let format = infos.column_by_name("format").unwrap().as_string::<i32>().value(row);
        let ending = name.rsplit('.').next().unwrap();
        assert_eq!(format, ending.replace("jpg", "jpeg").replace("tif", "tiff").as_str(), "{name}");
    }
}

#[test]
fn headers_are_read_without_the_pixels_behind_them() {
    let names = ["rgb_420.jpg", "rgb.png", "rgb.bmp", "lossy.webp", "palette.gif"];
    let whole: Vec<_> = names.map(fixture).to_vec();
    let cut: Vec<_> = whole.iter().map(|file| file[..file.len() * 3 / 4].to_vec()).collect();
    let ((told, reasons), (expected, _)) = (infos(&files(&cut)), infos(&files(&whole)));
    for (row, name) in names.iter().enumerate() {
        // WebP says in its header how long it is, and its reader looks there.
        if *name != "lossy.webp" {
            assert_eq!(reasons[row], None, "{name}");
            assert_eq!(number(&told, "width", row), number(&expected, "width", row), "{name}");
        }
    }
    let bad =
        BinaryArray::from(vec![None, Some(b"" as &[u8]), Some(b"none"), Some(&[0xFF, 0xD8, 0xFF, 0xE0])]);
    let (told, reasons) = infos(&batch(Arc::new(bad)));
    assert_eq!(told.null_count(), 4);
    assert!(reasons.iter().all(Option::is_some), "{reasons:?}");
    assert_eq!(reasons[3].as_deref(), Some("truncated JPEG"));
}

#[test]
fn a_side_of_any_length_is_told() {
    // A PNG's header alone: 100,000 columns, more than are decoded.
    let mut file = vec![0x89, b'P', b'N', b'G', b'\r', b'\n', 0x1A, b'\n'];
    let chunk = |kind: &[u8], data: &[u8]| {
        let body: Vec<u8> = kind.iter().chain(data).copied().collect();
        let sum = body.iter().fold(!0u32, |sum, byte| {
            (0..8).fold(sum ^ u32::from(*byte), |sum, _| (sum >> 1) ^ (0xEDB8_8320 * (sum & 1)))
        });
        [&(data.len() as u32).to_be_bytes(), body.as_slice(), &(!sum).to_be_bytes()].concat()
    };
    let size = [&100_000u32.to_be_bytes()[..], &2u32.to_be_bytes(), &[8, 2, 0, 0, 0]].concat();
    file.extend(chunk(b"IHDR", &size));
    file.extend(chunk(b"IDAT", &[0x78, 0x9c, 3, 0, 0, 0, 0, 1]));
    let (told, reasons) = infos(&files(&[file]));
    assert_eq!(reasons, [None]);
    assert_eq!((number(&told, "width", 0), number(&told, "height", 0)), (100_000, 2));
    assert_eq!(told.data_type().to_string().matches("Int32").count(), 3);
    assert_eq!(told.column(0).data_type(), &DataType::Utf8);
}
