//! Keras files read without Keras: the same numbers, and no damage that crashes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::io::{Cursor, Read, Write};
use std::path::{Path, PathBuf};

use arrow::array::AsArray;
use arrow::datatypes::Float32Type;
use sparkdl_core::{ErrorKind, Model, bundle, keras};
use support::*;
use zip::write::SimpleFileOptions;
use zip::{ZipArchive, ZipWriter};

/// A folder that goes away with its test.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let path = std::env::temp_dir().join(format!("sparkdl-keras-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Folder(path)
    }

    fn file(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn convert(file: &Path, output: &Path, model: &str) -> sparkdl_core::Result<()> {
    convert_with(file, output, model, [("featureLayer", ""), ("inputSize", "")])
}

fn convert_with(
    file: &Path,
    output: &Path,
    model: &str,
    more: [(&str, &str); 2],
) -> sparkdl_core::Result<()> {
    let (file, output) = (file.to_str().unwrap(), output.to_str().unwrap());
    let common = [("file", file), ("output", output), ("modelName", model), ("published", "false")];
    keras::convert(&pairs(&[&common[..], &more[..]].concat()))
}

fn refusal(folder: &Folder, file: &Path, model: &str) -> String {
    let output = folder.0.join("refused.sparkdl");
    let error = convert(file, &output, model).unwrap_err();
    assert!(!output.exists(), "nothing is left behind");
    assert_eq!(error.kind(), ErrorKind::InvalidModel, "{error}");
    error.to_string()
}

fn fixture_bytes(name: &str) -> Vec<u8> {
    std::fs::read(fixture("keras").join(name)).unwrap()
}

/// The fixture with its configuration changed as text.
fn with_config(change: impl Fn(String) -> String) -> Vec<u8> {
    let mut archive = ZipArchive::new(Cursor::new(fixture_bytes("mobilenet.keras"))).unwrap();
    let mut changed = ZipWriter::new(Cursor::new(Vec::new()));
    for index in 0..archive.len() {
        let mut member = archive.by_index(index).unwrap();
        let mut bytes = Vec::new();
        member.read_to_end(&mut bytes).unwrap();
        let name = member.name().unwrap().into_owned();
        if name == "config.json" {
            bytes = change(String::from_utf8(bytes).unwrap()).into_bytes();
        }
        changed.start_file(name, SimpleFileOptions::default()).unwrap();
        changed.write_all(&bytes).unwrap();
    }
    changed.finish().unwrap().into_inner()
}

#[test]
fn both_formats_give_what_keras_gives() {
    load_tensorflow();
    let folder = Folder::new("equal");
    let expected: serde_json::Value = serde_json::from_slice(&fixture_bytes("expected.json")).unwrap();
    let pictures: Vec<Vec<u8>> = (0..3).map(|n| fixture_bytes(&format!("{n}.png"))).collect();
    let batch = files(&pictures.iter().map(|picture| Some(picture.as_slice())).collect::<Vec<_>>());
    for format in ["mobilenet.keras", "mobilenet.h5"] {
        let output = folder.0.join(format!("{format}.sparkdl"));
        convert(&fixture("keras").join(format), &output, "MobileNet")
            .unwrap_or_else(|e| panic!("{}", e.report()));
        for (key, task, pooling) in
            [("avg", "features", "avg"), ("max", "features", "max"), ("predictions", "predictions", "avg")]
        {
            let options = with(model_options(output.to_str().unwrap(), task), "pooling", pooling);
            let result = Model::open(&options).unwrap().run(&batch).unwrap();
            let rows = result.column(0).as_fixed_size_list();
            for row in 0..3 {
                let found = rows.value(row).as_primitive::<Float32Type>().values().to_vec();
                let wanted = numbers(&expected[key][row]);
                let largest = wanted.iter().fold(0.0_f32, |most, value| most.max(value.abs()));
                assert_eq!(found.len(), wanted.len());
                let furthest =
                    found.iter().zip(&wanted).fold(0.0_f32, |most, (a, b)| most.max((a - b).abs()));
                assert!(furthest <= 1e-4 * largest, "{format} {key}: {furthest} of {largest}");
            }
        }
    }
}

#[test]
fn both_formats_give_the_same_graph() {
    let folder = Folder::new("same");
    let digests: Vec<String> = ["mobilenet.keras", "mobilenet.h5"]
        .iter()
        .map(|format| {
            let output = folder.0.join("same.sparkdl");
            convert(&fixture("keras").join(format), &output, "MobileNet").unwrap();
            let manifest: serde_json::Value =
                serde_json::from_str(&bundle::describe(&output).unwrap().manifest).unwrap();
            assert_eq!(manifest["outputs"]["predictions"]["shape"], serde_json::json!([10]));
            assert_eq!(manifest["labels"], serde_json::Value::Null);
            manifest["graph"]["sha256"].as_str().unwrap().to_owned()
        })
        .collect();
    assert_eq!(digests[0], digests[1]);
}

#[test]
fn pooled_features_are_no_scores() {
    let folder = Folder::new("pooled");
    let pooled = with_config(|config| {
        config
            .replace("\"target_shape\": [10]", "\"target_shape\": [40]")
            .replace("[\"conv_preds\", 0, 0]", "[\"global_average_pooling2d\", 0, 0]")
    });
    let output = folder.0.join("pooled.sparkdl");
    convert(&folder.file("pooled.keras", &pooled), &output, "MobileNet").unwrap();
    let manifest: serde_json::Value =
        serde_json::from_str(&bundle::describe(&output).unwrap().manifest).unwrap();
    assert_eq!(manifest["outputs"].get("predictions"), None);
    assert_eq!(manifest["outputs"]["featuresAvg"]["shape"], serde_json::json!([40]));
}

#[test]
fn features_may_come_from_any_layer() {
    let folder = Folder::new("layer");
    let output = folder.0.join("layer.sparkdl");
    let convert = |layer: &str| {
        let file = fixture("keras").join("mobilenet.keras");
        convert_with(&file, &output, "MobileNet", [("featureLayer", layer), ("inputSize", "")])
    };
    let channels = |layer: &str| {
        convert(layer).unwrap_or_else(|e| panic!("{}", e.report()));
        let manifest: serde_json::Value =
            serde_json::from_str(&bundle::describe(&output).unwrap().manifest).unwrap();
        assert_eq!(manifest["featureLayer"], layer);
        let shape = |key: &str| manifest["outputs"][key]["shape"].clone();
        assert_eq!(shape("featuresAvg"), shape("featuresMax"));
        (shape("features").as_array().unwrap().len(), shape("featuresAvg").as_array().unwrap().len())
    };
    assert_eq!(channels("conv_pw_3"), (3, 1));
    assert_eq!(channels("global_average_pooling2d"), (3, 1));
    assert_eq!(channels("reshape_2"), (1, 1));
    let refused = convert("conv_pw_99_relu").unwrap_err().to_string();
    assert!(refused.contains("it has no layer conv_pw_99_relu with features to take"), "{refused}");
    assert!(refused.contains("the names nearest to it are conv_pw_9"), "{refused}");
}

#[test]
fn a_file_cut_anywhere_is_refused_by_name() {
    let folder = Folder::new("cut");
    for name in ["mobilenet.keras", "mobilenet.h5"] {
        let bytes = fixture_bytes(name);
        for step in 0..60 {
            let file = folder.file(name, &bytes[..bytes.len() * step / 60]);
            let message = refusal(&folder, &file, "MobileNet");
            assert!(message.contains(name), "{message}");
        }
    }
}

#[test]
fn weights_alone_are_matched_with_the_network_of_the_name_or_refused() {
    let folder = Folder::new("alone");
    let mut archive = ZipArchive::new(Cursor::new(fixture_bytes("mobilenet.keras"))).unwrap();
    let mut weights = Vec::new();
    archive.by_name("model.weights.h5").unwrap().read_to_end(&mut weights).unwrap();
    let file = folder.file("alone.weights.h5", &weights);
    // The fixture is a narrower MobileNet than the one of the table.
    let narrow = refusal(&folder, &file, "MobileNet");
    assert!(narrow.contains("kernel of the layer conv1 has the shape [3, 3, 3, 1] there"), "{narrow}");
    assert!(narrow.contains("needs [3, 3, 3, 32]"), "{narrow}");
    let other = refusal(&folder, &file, "VGG16");
    assert!(other.contains("The weights belong to another model"), "{other}");
    let nameless = refusal(&folder, &file, "");
    assert!(
        nameless.contains("it holds weights alone") && nameless.contains("alone.weights.h5"),
        "{nameless}"
    );
    for step in 0..60 {
        let cut = folder.file("cut.weights.h5", &weights[..weights.len() * step / 60]);
        assert!(refusal(&folder, &cut, "MobileNet").contains("cut.weights.h5"));
    }
    let foreign = folder.file("foreign.h5", &weights.iter().map(|_| 0).collect::<Vec<u8>>());
    assert!(refusal(&folder, &foreign, "MobileNet").contains("neither a .keras file (zip) nor an .h5 file"));
}

#[test]
fn a_model_of_any_kind_becomes_a_graph_on_tensors() {
    load_tensorflow();
    let folder = Folder::new("tensors");
    let output = folder.0.join("tensors.sparkdl");
    for format in ["mobilenet.keras", "mobilenet.h5"] {
        convert(&fixture("keras").join(format), &output, "").unwrap();
        let manifest: serde_json::Value =
            serde_json::from_str(&bundle::describe(&output).unwrap().manifest).unwrap();
        assert_eq!(manifest["version"], 2);
        assert_eq!(
            manifest["inputs"],
            serde_json::json!([{
                "name": "input_layer", "tensor": "input_0:0", "dtype": "float32", "shape": [32, 32, 3]
            }])
        );
        assert_eq!(manifest["outputs"][0]["shape"], serde_json::json!([10]));
        let refused = Model::open(&model_options(output.to_str().unwrap(), "features")).err().unwrap();
        assert!(refused.to_string().contains("it takes tensors, but a network for pictures is needed"));
    }
}

#[test]
fn flipped_bits_are_refused_or_harmless() {
    let folder = Folder::new("flipped");
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    for name in ["mobilenet.keras", "mobilenet.h5"] {
        let whole = fixture_bytes(name);
        let mut refused = 0;
        for _ in 0..150 {
            let mut bytes = whole.clone();
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            let place = usize::try_from(state % bytes.len() as u64).unwrap();
            bytes[place] ^= 1 << (state >> 40 & 7);
            let file = folder.file(name, &bytes);
            refused += usize::from(convert(&file, &folder.0.join("out.sparkdl"), "MobileNet").is_err());
        }
        // Members of a zip have checksums; numbers and unused room in HDF5 have none.
        assert!(name.ends_with(".h5") || refused >= 148, "{refused} of 150 were refused");
    }
}

#[test]
fn what_is_no_model_of_the_family_says_so() {
    let folder = Folder::new("family");
    let file = fixture("keras").join("mobilenet.keras");
    assert!(refusal(&folder, &file, "VGG16").contains("it is no VGG16: it has no feature map block5_pool"));
    let deeper = with_config(|config| {
        let layer = config.find("{\"module\": \"keras.layers\", \"class_name\": \"ReLU\"").unwrap();
        let twice = "{\"class_name\": \"ReLU\", \"name\": \"twice\", \"config\": {\"name\": \"twice\", \"trainable\": true}, \"inbound_nodes\": \
                     [[[\"conv1_relu\", 0, 0, {}]]]}, ";
        let config = format!("{}{twice}{}", &config[..layer], &config[layer..]);
        config.replacen("[\"conv1_relu\", 0, 0]}}], \"kwargs\"", "[\"twice\", 0, 0]}}], \"kwargs\"", 1)
    });
    let message = refusal(&folder, &folder.file("deeper.keras", &deeper), "MobileNet");
    assert!(message.contains("up to conv_pw_13_relu it has 28 layers ReLU, MobileNet has 27"), "{message}");
    let text = folder.file("text.keras", b"this is text");
    assert!(
        refusal(&folder, &text, "MobileNet").contains("neither a .keras file (zip) nor an .h5 file (HDF5)")
    );
    assert!(refusal(&folder, &folder.0, "MobileNet").contains("it is a folder"));
    let missing = convert(&folder.0.join("none.keras"), &folder.0.join("out"), "MobileNet").unwrap_err();
    assert_eq!(missing.kind(), ErrorKind::Io);
    let unknown = convert(&file, &folder.0.join("out"), "Nothing").unwrap_err();
    assert!(
        unknown.to_string().contains("There is no model \"Nothing\"; there are InceptionV3,"),
        "{unknown}"
    );
}

#[test]
fn what_cannot_be_built_is_refused_by_layer_and_reason() {
    let folder = Folder::new("layers");
    let change = |from: &str, to: &str| {
        let file = folder.file("changed.keras", &with_config(|config| config.replacen(from, to, 1)));
        refusal(&folder, &file, "MobileNet")
    };
    let lambda = change("\"class_name\": \"ReLU\"", "\"class_name\": \"Lambda\"");
    assert!(lambda.contains("Cannot build the layer conv1_relu (Lambda)"), "{lambda}");
    assert!(lambda.contains("python -m sparkdl export"), "{lambda}");
    let custom = change(
        "\"module\": \"keras.layers\", \"class_name\": \"ReLU\"",
        "\"module\": \"mine\", \"class_name\": \"ReLU\"",
    );
    assert!(custom.contains("conv1_relu (ReLU)") && custom.contains("it comes from mine"), "{custom}");
    let sideways = change("\"data_format\": \"channels_last\"", "\"data_format\": \"sideways\"");
    assert!(sideways.contains("its data_format is sideways"), "{sideways}");
    let double = change("\"config\": {\"name\": \"float32\"}", "\"config\": {\"name\": \"float64\"}");
    assert!(double.contains("it computes in float64"), "{double}");
    let grouped = change("\"groups\": 1", "\"groups\": 2");
    assert!(grouped.contains("(Conv2D)") && grouped.contains("2 groups of 3 channels"), "{grouped}");
    let wrong = change("\"filters\": 1", "\"filters\": 3");
    assert!(
        wrong.contains("has the shape") && wrong.contains("The weights belong to another model"),
        "{wrong}"
    );
    let huge = change("\"kernel_size\": [3, 3]", "\"kernel_size\": [4294967296, 4294967296]");
    assert!(huge.contains("its argument kernel_size is [4294967296,4294967296]"), "{huge}");
}
