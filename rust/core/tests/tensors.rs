//! Graphs on tensors: columns of numbers, lists and vectors in, nested lists out; and pictures through them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::path::PathBuf;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, Float64Array, Int8Array, Int32Array, Int64Array, ListArray,
    RecordBatch, StringArray, StructArray,
};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::datatypes::{DataType, Field, Float32Type, Int32Type};
use serde_json::{Value, json};
use sparkdl_core::{ErrorKind, Model, keras};
use support::*;

/// A bundle made of a Keras file of the fixtures, deleted with its test.
struct Bundle(PathBuf);

impl Bundle {
    fn of(keras_file: &str, test: &str, size: &str) -> Bundle {
        load_tensorflow();
        let output =
            std::env::temp_dir().join(format!("sparkdl-tensors-{test}-{}.sparkdl", std::process::id()));
        let file = fixture("keras").join(keras_file);
        let options = [
            ("file", file.to_str().unwrap()),
            ("output", output.to_str().unwrap()),
            ("modelName", ""),
            ("published", "false"),
            ("featureLayer", ""),
            ("inputSize", size),
        ];
        keras::convert(&pairs(&options)).unwrap_or_else(|e| panic!("{}", e.report()));
        Bundle(output)
    }

    fn tensors(&self, inputs: Value, outputs: Value) -> Pairs {
        pairs(&[
            ("model", self.0.to_str().unwrap()),
            ("task", "tensors"),
            ("threads", "0"),
            ("inputs", &inputs.to_string()),
            ("outputs", &outputs.to_string()),
            ("allowUnsafeOps", "false"),
        ])
    }

    fn pictures(&self, mode: &str) -> Pairs {
        pairs(&[
            ("model", self.0.to_str().unwrap()),
            ("task", "pictures"),
            ("threads", "0"),
            ("output", ""),
            ("outputMode", mode),
            ("channelOrder", "RGB"),
            ("normalization", "none"),
            ("height", "0"),
            ("width", "0"),
            ("scaleHint", "SCALE_AREA_AVERAGING"),
            ("resizeMode", "stretch"),
            ("maxPixels", "89478485"),
            ("applyExifOrientation", "false"),
            ("fastDecode", "false"),
        ])
    }
}

impl Drop for Bundle {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

fn expected(name: &str) -> Value {
    serde_json::from_slice(&std::fs::read(fixture("keras").join(name)).unwrap()).unwrap()
}

fn flat(value: &Value) -> Vec<f64> {
    match value {
        Value::Array(values) => values.iter().flat_map(flat).collect(),
        Value::Bool(flag) => vec![f64::from(u8::from(*flag))],
        value => vec![value.as_f64().unwrap()],
    }
}

fn list(rows: &[Option<ArrayRef>], item: DataType) -> ArrayRef {
    let lengths = rows.iter().map(|row| row.as_ref().map_or(0, |row| row.len()));
    let parts: Vec<&dyn Array> = rows.iter().flatten().map(AsRef::as_ref).collect();
    let values = arrow::compute::concat(&parts).unwrap();
    let nulls = NullBuffer::from_iter(rows.iter().map(Option::is_some));
    let field = Arc::new(Field::new("element", item, true));
    Arc::new(ListArray::new(field, OffsetBuffer::from_lengths(lengths), values, Some(nulls)))
}

fn longs(rows: &[Option<Vec<Option<i64>>>]) -> ArrayRef {
    let rows: Vec<Option<ArrayRef>> =
        rows.iter().map(|row| row.clone().map(|row| Arc::new(Int64Array::from(row)) as ArrayRef)).collect();
    list(&rows, DataType::Int64)
}

fn doubles(rows: &[Vec<f64>]) -> ArrayRef {
    let rows: Vec<Option<ArrayRef>> =
        rows.iter().map(|row| Some(Arc::new(Float64Array::from(row.clone())) as ArrayRef)).collect();
    list(&rows, DataType::Float64)
}

fn rows_of(value: &Value) -> Vec<Vec<f64>> {
    value.as_array().unwrap().iter().map(flat).collect()
}

fn tokens_of(value: &Value) -> ArrayRef {
    let row = |row: Vec<f64>| Some(row.into_iter().map(|token| Some(token as i64)).collect());
    longs(&rows_of(value).into_iter().map(row).collect::<Vec<_>>())
}

fn batch(columns: Vec<ArrayRef>) -> RecordBatch {
    let named = columns.into_iter().enumerate().map(|(index, column)| (format!("c{index}"), column, true));
    RecordBatch::try_from_iter_with_nullable(named).unwrap()
}

fn reasons(result: &RecordBatch) -> Vec<String> {
    let errors = result.column_by_name("error").unwrap().as_string::<i32>().clone();
    errors.iter().map(|reason| reason.unwrap_or("").to_owned()).collect()
}

fn assert_close(found: &[f32], wanted: &[f64]) {
    assert_eq!(found.len(), wanted.len());
    for (found, wanted) in found.iter().zip(wanted) {
        assert!((f64::from(*found) - wanted).abs() < 1e-5, "{found} {wanted}");
    }
}

#[test]
fn several_inputs_and_outputs_of_several_types_give_what_keras_gives() {
    let bundle = Bundle::of("tensors.keras", "several", "");
    let wanted = expected("tensors.json");
    let columns = vec![doubles(&rows_of(&wanted["vector"])), tokens_of(&wanted["tokens"])];
    let options = bundle.tensors(json!(["vector", "tokens"]), json!(["score", "steps", "greater"]));
    let result = Model::open(&options).unwrap().run(&batch(columns)).unwrap();
    assert_eq!(
        result.schema().fields().iter().map(|field| field.name()).collect::<Vec<_>>(),
        ["output_0", "output_1", "output_2", "error"]
    );
    let score = result.column(0).as_list::<i32>();
    assert_close(score.values().as_primitive::<Float32Type>().values(), &flat(&wanted["score"]));
    let steps = result.column(1).as_list::<i32>();
    assert_eq!((steps.value_length(0), steps.values().as_list::<i32>().value_length(0)), (4, 2));
    let numbers = steps.values().as_list::<i32>().values().as_primitive::<Float32Type>();
    assert_close(numbers.values(), &flat(&wanted["steps"]));
    let positive: Vec<f64> = (result.column(2).as_list::<i32>().values().as_boolean().iter())
        .map(|flag| f64::from(u8::from(flag.unwrap())))
        .collect();
    assert_eq!(positive, flat(&wanted["greater"]));
    assert_eq!(result.column(3).null_count(), 6);
}

#[test]
fn an_input_that_no_output_needs_is_still_checked() {
    let bundle = Bundle::of("tensors.keras", "unneeded", "");
    let wanted = expected("tensors.json");
    let options = bundle.tensors(json!(["tokens", "vector"]), json!(["steps"]));
    let mut vectors = rows_of(&wanted["vector"]);
    vectors[2].pop();
    let result = Model::open(&options).unwrap();
    let result = result.run(&batch(vec![tokens_of(&wanted["tokens"]), doubles(&vectors)])).unwrap();
    assert_eq!(reasons(&result)[2], "2 numbers, but the input vector takes the shape [3]");
    assert_eq!(result.column(0).null_count(), 1);
}

#[test]
fn bad_rows_have_reasons_and_take_nothing_from_the_others() {
    let bundle = Bundle::of("tensors.keras", "bad", "");
    let options = bundle.tensors(json!(["tokens", "vector"]), json!(["score", "steps"]));
    let model = Model::open(&options).unwrap();
    let some = |tokens: &[i64]| Some(tokens.iter().copied().map(Some).collect::<Vec<_>>());
    let good = some(&[1, 2, 3, 4]);
    let tokens = longs(&[
        good.clone(),
        None,
        some(&[1, 2, 3]),
        Some(vec![Some(1), None, Some(3), Some(4)]),
        some(&[1, 2, 3, 5_000_000_000]),
        good.clone(),
    ]);
    let vectors = doubles(&vec![vec![0.5, -1.0, 2.0]; 6]);
    let result = model.run(&batch(vec![tokens, vectors.clone()])).unwrap();
    assert_eq!(
        reasons(&result),
        [
            "",
            "no value for the input tokens (null)",
            "3 numbers, but the input tokens takes the shape [4]",
            "a null inside of the value for the input tokens",
            "a number that int32 does not hold, for the input tokens",
            "",
        ]
    );
    let score = result.column(0).as_list::<i32>();
    let valid: Vec<bool> = (0..6).map(|row| score.is_valid(row)).collect();
    assert_eq!(valid, [true, false, false, false, false, true]);
    let alone = model.run(&batch(vec![longs(std::slice::from_ref(&good)), vectors.slice(0, 1)])).unwrap();
    for row in [0, 5] {
        assert_eq!(&score.value(row), &alone.column(0).as_list::<i32>().value(0));
        assert_eq!(&result.column(1).as_list::<i32>().value(row), &alone.column(1).as_list::<i32>().value(0));
    }
    // A slice of a larger batch, and an empty one.
    let sliced =
        model.run(&batch(vec![longs(&[None, good.clone()]).slice(1, 1), vectors.slice(3, 1)])).unwrap();
    assert_eq!(sliced.column(0), alone.column(0));
    let empty = model.run(&batch(vec![longs(&[good]).slice(0, 0), vectors.slice(0, 0)])).unwrap();
    assert_eq!((empty.num_rows(), empty.num_columns()), (0, 3));
}

#[test]
fn vectors_dense_and_sparse_are_flat_lists() {
    let bundle = Bundle::of("tensors.keras", "vectors", "");
    let options = bundle.tensors(json!(["tokens", "vector"]), json!(["score"]));
    let model = Model::open(&options).unwrap();
    let tokens = longs(&vec![Some(vec![Some(1); 4]); 4]);
    let ints = |rows: &[&[i32]]| -> ArrayRef {
        let rows: Vec<Option<ArrayRef>> =
            rows.iter().map(|row| Some(Arc::new(Int32Array::from(row.to_vec())) as ArrayRef)).collect();
        list(&rows, DataType::Int32)
    };
    let values = doubles(&[vec![0.0, 4.0, -1.0], vec![4.0, -1.0], vec![1.0], vec![9.0]]);
    let indices = ints(&[&[], &[1, 2], &[0], &[0]]);
    let columns: [(&str, ArrayRef); 4] = [
        ("type", Arc::new(Int8Array::from(vec![1, 0, 0, 0]))),
        ("size", Arc::new(Int32Array::from(vec![None, Some(3), Some(4_000_000), Some(3)]))),
        ("indices", indices),
        ("values", values),
    ];
    let field = |name: &str, column: &ArrayRef| Arc::new(Field::new(name, column.data_type().clone(), true));
    let (fields, columns): (Vec<_>, Vec<_>) =
        columns.into_iter().map(|(name, column)| (field(name, &column), column)).unzip();
    let nulls = NullBuffer::from(vec![true, true, true, false]);
    let vectors = Arc::new(StructArray::new(fields.into(), columns, Some(nulls)));
    let result = model.run(&batch(vec![tokens.clone(), vectors])).unwrap();
    assert_eq!(
        reasons(&result),
        [
            "",
            "",
            "4000000 numbers, but the input vector takes the shape [3]",
            "no value for the input vector (null)"
        ]
    );
    let score = result.column(0).as_list::<i32>();
    assert_eq!(&score.value(0), &score.value(1));
}

#[test]
fn columns_and_names_that_do_not_fit_are_refused_before_anything_runs() {
    let bundle = Bundle::of("tensors.keras", "refused", "");
    let options = bundle.tensors(json!(["tokens", "vector"]), json!(["score"]));
    let model = Model::open(&options).unwrap();
    let vectors = doubles(&[vec![0.0; 3]]);
    let tokens = longs(&[Some(vec![Some(1); 4])]);
    let refusal = |columns: Vec<ArrayRef>| {
        let error = model.run(&batch(columns)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidBatch);
        error.to_string()
    };
    let message = refusal(vec![doubles(&[vec![1.0; 4]]), vectors.clone()]);
    assert!(
        message.contains("but the input is int32 of shape [4]: it takes arrays or vectors of such numbers"),
        "{message}"
    );
    let message = refusal(vec![tokens.clone(), Arc::new(StringArray::from(vec!["three"]))]);
    assert!(message.starts_with("The column for the input vector is of type Utf8"), "{message}");
    let deep = list(&[Some(vectors.clone())], vectors.data_type().clone());
    assert!(refusal(vec![tokens.clone(), deep]).contains("the input is float32 of shape [3]"));
    assert_eq!(refusal(vec![tokens]), "A batch must have 2 columns, one for each input, but has 1.");
    let named = |inputs: Value, outputs: Value| {
        Model::open(&bundle.tensors(inputs, outputs)).unwrap_err().message().to_owned()
    };
    assert!(named(json!(["tokens"]), json!(["score"])).contains("Nothing feeds the input vector of"));
    assert!(named(json!(["tokens", "tokens"]), json!(["score"])).contains("tokens of"));
    assert!(
        named(json!(["tokens", "vector"]), json!(["sores"]))
            .contains("has no output sores; it has steps, score, greater.")
    );
    assert!(named(json!("tokens"), json!(["score"])).contains("it takes a JSON array of names"));
    let pictures = Model::open(&bundle.pictures("values")).unwrap_err();
    assert!(pictures.to_string().contains("it has 2 inputs (tokens, vector), not one"), "{pictures}");
}

#[test]
fn pictures_go_through_a_model_of_any_size() {
    let file = std::fs::read(fixture("keras").join("small.png")).unwrap();
    let wanted = expected("pictures.json");
    let files = files(&[Some(&file), Some(b"no picture"), None]);
    let bundle = Bundle::of("scores.keras", "scores", "");
    let open = Model::open(&bundle.pictures("values")).unwrap_err().to_string();
    assert!(open.contains("takes pictures of any height: set inputSize"), "{open}");
    let sized = with(with(bundle.pictures("values"), "height", "8"), "width", "8");
    let result = Model::open(&sized).unwrap().run(&files).unwrap();
    let scores = result.column(0).as_fixed_size_list();
    assert_close(scores.value(0).as_primitive::<Float32Type>().values(), &flat(&wanted["scores"][0]));
    assert_eq!((scores.is_null(1), scores.is_null(2)), (true, true));
    assert_eq!(reasons(&result).iter().filter(|reason| reason.is_empty()).count(), 1);

    let bundle = Bundle::of("painter.keras", "painter", "8x8");
    let result = Model::open(&bundle.pictures("image")).unwrap().run(&files).unwrap();
    let images = result.column(0).as_struct();
    let number = |name: &str| images.column_by_name(name).unwrap().as_primitive::<Int32Type>().value(0);
    assert_eq!(["height", "width", "nChannels", "mode"].map(number), [8, 8, 3, 21]);
    let data: &BinaryArray = images.column_by_name("data").unwrap().as_binary();
    let samples = data.value(0).as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes));
    let bgr: Vec<f32> = samples.collect();
    let rgb: Vec<f32> = bgr.chunks(3).flat_map(|pixel| [pixel[2], pixel[1], pixel[0]]).collect();
    assert_close(&rgb, &flat(&wanted["painter"][0]));
    assert_eq!((images.is_null(1), images.is_valid(0)), (true, true));
    let wrong = with(with(bundle.pictures("values"), "height", "9"), "width", "8");
    let wrong = Model::open(&wrong).unwrap_err().to_string();
    assert!(wrong.contains("has the height 8, so inputSize cannot have 9"), "{wrong}");
    let grey = Model::open(&with(bundle.pictures("values"), "channelOrder", "L")).unwrap_err().to_string();
    assert!(grey.contains("has 3 channels, so channelOrder must be \"RGB\" or \"BGR\", not \"L\""), "{grey}");
}

#[test]
fn rows_of_different_sizes_run_by_themselves() {
    let bundle = Bundle::of("scores.keras", "sizes", "");
    let model = Model::open(&bundle.tensors(json!(["picture"]), json!(["scores"]))).unwrap();
    let picture = |height: usize, width: usize| {
        let pixel = |at: usize| (0..3).map(|channel| ((at * 3 + channel) % 251) as f64).collect::<Vec<_>>();
        let line = |line: usize| doubles(&(0..width).map(|x| pixel(line * width + x)).collect::<Vec<_>>());
        let lines: Vec<_> = (0..height).map(|y| Some(line(y))).collect();
        list(&lines, lines[0].as_ref().unwrap().data_type().clone())
    };
    let sizes = [(4, 5), (4, 5), (3, 3), (4, 5)];
    let pictures: Vec<_> = sizes.map(|(height, width)| Some(picture(height, width))).into();
    let kind = pictures[0].as_ref().unwrap().data_type().clone();
    let all = model.run(&batch(vec![list(&pictures, kind.clone())])).unwrap();
    assert_eq!(model.metrics().session_runs, 3);
    for (row, picture) in pictures.iter().enumerate() {
        let alone = model.run(&batch(vec![list(std::slice::from_ref(picture), kind.clone())])).unwrap();
        let values = |result: &RecordBatch, row| -> Vec<f32> {
            result.column(0).as_list::<i32>().value(row).as_primitive::<Float32Type>().values().to_vec()
        };
        // The last bits depend on how many rows run together.
        let expected: Vec<f64> = values(&alone, 0).into_iter().map(f64::from).collect();
        assert_close(&values(&all, row), &expected);
    }
}
