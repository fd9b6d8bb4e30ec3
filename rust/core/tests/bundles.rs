//! Bundles from elsewhere: damaged, crafted, or with a graph that must not run. None may reach TensorFlow.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::io::Write;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use sparkdl_core::{ErrorKind, Model, bundle};
use support::*;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

/// A file that is gone when dropped.
struct Temporary(PathBuf);

impl Temporary {
    fn new(bytes: &[u8]) -> Self {
        static COUNT: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
        let number = COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("sparkdl-{}-{number}.sparkdl", std::process::id()));
        std::fs::write(&path, bytes).unwrap();
        Temporary(path)
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

fn archive(members: &[(&str, &[u8])], method: CompressionMethod) -> Vec<u8> {
    let mut zip = ZipWriter::new(std::io::Cursor::new(Vec::new()));
    for (name, bytes) in members {
        zip.start_file(*name, SimpleFileOptions::default().compression_method(method)).unwrap();
        zip.write_all(bytes).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

fn manifest(graph: &[u8]) -> Value {
    let digest: String = Sha256::digest(graph).iter().map(|byte| format!("{byte:02x}")).collect();
    json!({
        "format": "sparkdl-bundle", "version": 1, "name": "Test",
        "input": {"tensor": "image:0", "height": 2, "width": 2, "channels": 3, "channelOrder": "RGB", "normalization": "tf"},
        "outputs": {"predictions": {"tensor": "out:0", "shape": [2, 2, 3]}},
        "labels": null, "graph": {"file": "graph.pb", "sha256": digest}, "source": {}, "license": "Apache-2.0"
    })
}

fn bundle_of(graph: &[u8], manifest: &Value) -> Vec<u8> {
    archive(
        &[("manifest.json", manifest.to_string().as_bytes()), ("graph.pb", graph)],
        CompressionMethod::Stored,
    )
}

fn refusal(bytes: &[u8]) -> String {
    let file = Temporary::new(bytes);
    let error = bundle::describe(&file.0).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidModel, "{}", error.report());
    assert!(error.message().contains(file.0.to_str().unwrap()), "{error}");
    error.report()
}

fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    let mut length = bytes.len();
    let mut out = vec![number << 3 | 2];
    while length >= 128 {
        out.push((length & 127) as u8 | 128);
        length >>= 7;
    }
    out.push(length as u8);
    out.extend_from_slice(bytes);
    out
}

fn node(name: &str, op: &str, inputs: &[&str], attrs: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let mut node = [field(1, name.as_bytes()), field(2, op.as_bytes())].concat();
    inputs.iter().for_each(|input| node.extend(field(3, input.as_bytes())));
    attrs.iter().for_each(|(key, value)| {
        node.extend(field(5, &[field(1, key.as_bytes()), field(2, value)].concat()))
    });
    node
}

/// `type: DT_FLOAT`, `s: …`, `func { name: … }`.
fn float() -> Vec<u8> {
    vec![6 << 3, 1]
}
fn text(text: &str) -> Vec<u8> {
    field(2, text.as_bytes())
}
fn function(name: &str) -> Vec<u8> {
    field(10, &field(1, name.as_bytes()))
}

/// A graph whose placeholder `image` goes through `nodes`; the last one should be `out`.
fn graph(nodes: &[Vec<u8>]) -> Vec<u8> {
    let mut graph = field(1, &node("image", "Placeholder", &[], &[("dtype", float())]));
    nodes.iter().for_each(|node| graph.extend(field(1, node)));
    graph
}

fn graph_refusal(graph: &[u8]) -> String {
    refusal(&bundle_of(graph, &manifest(graph)))
}

#[test]
fn the_tiny_bundle_is_described_without_tensorflow() {
    let description = bundle::describe(Path::new(&tiny())).unwrap();
    assert!(description.manifest.contains("\"Tiny\""));
    let digest: String =
        Sha256::digest(std::fs::read(tiny()).unwrap()).iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(description.digest, digest);
}

#[test]
fn no_truncation_and_no_flipped_byte_passes_unseen() {
    let whole = std::fs::read(tiny()).unwrap();
    for length in (0..whole.len()).step_by(61) {
        assert!(refusal(&whole[..length]).starts_with("Cannot use the bundle"));
    }
    let original = bundle::describe(Path::new(&tiny())).unwrap();
    for at in (0..whole.len()).step_by(7) {
        let mut flipped = whole.clone();
        flipped[at] ^= 0x20;
        let file = Temporary::new(&flipped);
        // What zip itself does not protect (dates, versions) may change; what we read of it may not.
        if let Ok(description) = bundle::describe(&file.0) {
            assert_eq!(description.manifest, original.manifest, "byte {at}");
            assert_ne!(description.digest, original.digest);
        }
    }
}

#[test]
fn crafted_archives_are_refused_and_nothing_is_written() {
    let graph = graph(&[node("out", "Identity", &["image"], &[("T", float())])]);
    let json = manifest(&graph).to_string();
    for name in ["../evil", "/etc/evil", "a/../../evil", "a\\..\\evil"] {
        let bytes = archive(&[("manifest.json", json.as_bytes()), (name, b"x")], CompressionMethod::Stored);
        assert!(refusal(&bytes).contains("is not a plain file inside it"), "{name}");
    }
    let bomb = archive(
        &[("manifest.json", json.as_bytes()), ("graph.pb", &vec![0; 1 << 20])],
        CompressionMethod::Deflated,
    );
    assert!(refusal(&bomb).contains("more than 100 to 1"));
    let names: Vec<String> = (0..100).map(|number| format!("m{number}")).collect();
    let many: Vec<(&str, &[u8])> = names.iter().map(|name| (name.as_str(), b"x".as_slice())).collect();
    assert!(refusal(&archive(&many, CompressionMethod::Stored)).contains("it has 100 members, at most 64"));
    assert!(
        refusal(&archive(&[("graph.pb", &graph)], CompressionMethod::Stored))
            .contains("no readable manifest.json")
    );
    assert!(refusal(b"plain text").contains("not a readable zip file"));
    // Two members of one name: the writer refuses to, so one is renamed in the bytes.
    let mut doubled =
        archive(&[("manifest.json", json.as_bytes()), ("nanifest.json", b"{}")], CompressionMethod::Stored);
    for at in 0..doubled.len() - 13 {
        if &doubled[at..at + 13] == b"nanifest.json" {
            doubled[at] = b'm';
        }
    }
    assert!(refusal(&doubled).contains("two members of one name"));
}

#[test]
fn every_wrong_field_of_the_manifest_is_named() {
    let graph = graph(&[node("out", "Identity", &["image"], &[("T", float())])]);
    let cases = [
        ("/format", json!("zip"), "format must be \"sparkdl-bundle\" but is \"zip\""),
        ("/version", json!(3), "version must be 1 but is 3"),
        ("/name", json!(""), "name is empty"),
        ("/input/height", json!(0), "input.height must be from 1 to 16384 but is 0"),
        ("/input/width", json!(100_000), "input.width must be from 1 to 16384 but is 100000"),
        ("/input/channels", json!(4), "input.channels must be 1 or 3 but is 4"),
        ("/input/channelOrder", json!("GBR"), "input.channelOrder must be one of RGB, BGR but is \"GBR\""),
        ("/input/normalization", json!("x"), "input.normalization must be one of tf, caffe, torch, none"),
        ("/outputs", json!({}), "outputs names no tensor"),
        ("/outputs/predictions/shape", json!([]), "which is empty or too large"),
        ("/outputs/predictions/shape", json!([1_u64 << 40, 1_u64 << 40]), "which is empty or too large"),
        ("/graph/sha256", json!("abc"), "graph.sha256 must be 64 lower-case hex digits"),
        ("/input/tensor", json!(7), "expected a string"),
        ("/labels", json!([["a"]]), "labels"),
    ];
    for (at, value, said) in cases {
        let mut changed = manifest(&graph);
        *changed.pointer_mut(at).unwrap() = value;
        let message = refusal(&bundle_of(&graph, &changed));
        assert!(
            message.contains(said) || (said == "labels" && message.contains("line 1")),
            "{at}: {message}"
        );
    }
    let mut more = manifest(&graph);
    more["extra"] = json!(1);
    assert!(refusal(&bundle_of(&graph, &more)).contains("unknown field `extra`"));
    let mut other = manifest(&graph);
    other["graph"]["sha256"] = json!("0".repeat(64));
    assert!(refusal(&bundle_of(&graph, &other)).contains("the manifest says 0000"));
}

#[test]
fn operations_that_reach_out_are_refused_by_name() {
    let ops = [
        "ReadFile",
        "ImmutableConst",
        "WriteFile",
        "PyFunc",
        "EagerPyFunc",
        "PyFuncStateless",
        "SaveV2",
        "RestoreV2",
        "PrintV2",
        "MatchingFiles",
        "QueueDequeueV2",
        "WholeFileReaderV2",
        "IteratorGetNext",
        "TensorSliceDataset",
        "RpcCall",
        "_Send",
        "CollectiveReduce",
        "InitializeTableFromTextFileV2",
    ];
    for op in ops {
        let message = graph_refusal(&graph(&[node("out", op, &["image"], &[])]));
        assert!(
            message.contains(&format!("its graph runs {op} (node out), which is not allowed")),
            "{message}"
        );
        // By a control edge.
        let hidden = graph(&[node("side", op, &[], &[]), node("out", "Identity", &["image", "^side"], &[])]);
        assert!(graph_refusal(&hidden).contains(&format!("its graph runs {op} (node side)")));
    }
    // What does not run may be there: SavedModels carry savers.
    let unused =
        graph(&[node("save", "SaveV2", &[], &[]), node("out", "Identity", &["image"], &[("T", float())])]);
    let file = Temporary::new(&bundle_of(&unused, &manifest(&unused)));
    bundle::describe(&file.0).unwrap();
}

#[test]
fn operations_hidden_in_functions_are_found() {
    let inner = [field(1, &field(1, b"inner")), field(3, &node("write", "WriteFile", &[], &[]))].concat();
    let outer = [
        field(1, &field(1, b"outer")),
        field(3, &node("call", "PartitionedCall", &[], &[("f", function("inner"))])),
    ]
    .concat();
    let library = field(2, &[field(1, &inner), field(1, &outer)].concat());
    for out in [
        node("out", "StatefulPartitionedCall", &["image"], &[("f", function("outer"))]),
        node("out", "outer", &["image"], &[]),
        node("out", "Case", &["image"], &[("branches", field(1, &field(9, &field(1, b"outer"))))]),
    ] {
        let message = graph_refusal(&[graph(&[out]), library.clone()].concat());
        assert!(message.contains("its graph runs WriteFile (node write in the function inner)"), "{message}");
    }
}

#[test]
fn graphs_that_do_not_fit_their_manifest_are_refused() {
    let depthwise =
        node("out", "DepthwiseConv2dNative", &["image", "image"], &[("padding", text("EXPLICIT"))]);
    assert!(graph_refusal(&graph(&[depthwise])).contains("EXPLICIT padding"));
    assert!(
        graph_refusal(&graph(&[node("out", "VarHandleOp", &["image"], &[])])).contains("freeze the graph")
    );
    assert!(
        graph_refusal(&graph(&[])).contains("its graph has no tensor out:0; the names nearest to it are ")
    );
    assert!(
        graph_refusal(&graph(&[node("out", "Relu", &["gone"], &[])]))
            .contains("uses the node gone, which is not there")
    );
    assert!(
        graph_refusal(&graph(&[node("out", "Const", &[], &[])]))
            .contains("out:0 does not depend on the input image:0")
    );
    let second = [node("more", "Placeholder", &[], &[]), node("out", "AddV2", &["image", "more"], &[])];
    assert!(graph_refusal(&graph(&second)).contains("out:0 needs a second input, more"));
    let twice = [node("out", "Relu", &["image"], &[]), node("out", "Relu", &["image"], &[])];
    assert!(graph_refusal(&graph(&twice)).contains("two nodes named out"));
    let integer = field(1, &node("image", "Placeholder", &[], &[("dtype", vec![6 << 3, 3])]));
    let integer = [integer, field(1, &node("out", "Relu", &["image"], &[]))].concat();
    assert!(graph_refusal(&integer).contains("its input image:0 is not of type float32"));
    assert!(graph_refusal(b"\xff\xff\xff\xff").contains("not a TensorFlow GraphDef"));
}

#[test]
fn what_only_tensorflow_can_see_is_refused_when_opened() {
    load_tensorflow();
    let open = |graph: &[u8], manifest: &Value| {
        let file = Temporary::new(&bundle_of(graph, manifest));
        Model::open(&model_options(file.0.to_str().unwrap(), "predictions")).map(|_| ())
    };
    let good = graph(&[node("out", "Relu", &["image"], &[("T", float())])]);
    open(&good, &manifest(&good)).unwrap();
    let unknown = graph(&[node("out", "NoSuchOp", &["image"], &[])]);
    let error = open(&unknown, &manifest(&unknown)).unwrap_err();
    assert!(
        error.report().contains("TensorFlow does not take its graph") && error.report().contains("NoSuchOp"),
        "{}",
        error.report()
    );
    let shape = field(
        7,
        &[field(2, &[8, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1]), field(2, &[8, 5])]
            .concat(),
    );
    let narrow = field(1, &node("image", "Placeholder", &[], &[("dtype", float()), ("shape", shape)]));
    let narrow = [narrow, field(1, &node("out", "Relu", &["image"], &[("T", float())]))].concat();
    let error = open(&narrow, &manifest(&narrow)).unwrap_err();
    assert!(error.message().contains("the manifest gives image:0 the shape [2, 2, 3]"), "{error}");
    let index = graph(&[node("out", "Relu", &["image"], &[("T", float())])]);
    let mut third = manifest(&index);
    third["outputs"]["predictions"]["tensor"] = json!("out:3");
    assert!(open(&index, &third).unwrap_err().message().contains("its graph has no tensor out:3"));
    let missing = Model::open(&model_options("/nowhere/x.sparkdl", "predictions")).unwrap_err();
    assert_eq!(missing.kind(), ErrorKind::Io);
    assert!(missing.message().contains("/nowhere/x.sparkdl"), "{missing}");
}
