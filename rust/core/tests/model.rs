//! Opening and running the tiny bundle with the real TensorFlow.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::Float32Type;
use sparkdl_core::{ErrorKind, Model};
use support::*;

fn vectors(batch: &RecordBatch) -> Vec<Option<Vec<f32>>> {
    let list = batch.column(0).as_fixed_size_list();
    (0..list.len())
        .map(|row| {
            list.is_valid(row).then(|| list.value(row).as_primitive::<Float32Type>().values().to_vec())
        })
        .collect()
}

fn open(task: &str) -> Model {
    load_tensorflow();
    Model::open(&model_options(&tiny(), task)).unwrap_or_else(|e| panic!("{}", e.report()))
}

fn assert_close(found: &[f32], expected: &[f32]) {
    assert_eq!(found.len(), expected.len());
    for (a, b) in found.iter().zip(expected) {
        assert!((a - b).abs() <= 1e-5 * b.abs().max(1.0), "{found:?} is not {expected:?}");
    }
}

#[test]
fn scores_and_features_equal_tensorflows_own() {
    let expected = expected();
    let pictures: Vec<Vec<u8>> = (0..4).map(picture).collect();
    let batch = structs(&pictures);
    for task in ["predictions", "features"] {
        let found = vectors(&open(task).run(&batch).unwrap());
        for (row, values) in found.iter().enumerate() {
            assert_close(values.as_ref().unwrap(), &numbers(&expected[task][row]));
        }
        assert!(found[0] != found[1], "two pictures must differ");
    }
}

#[test]
fn every_pooling_agrees_with_the_feature_map() {
    load_tensorflow();
    let batch = structs(&[picture(0), picture(1)]);
    let run = |pooling: &str| {
        let options = with(model_options(&tiny(), "features"), "pooling", pooling);
        vectors(&Model::open(&options).unwrap().run(&batch).unwrap())
    };
    let (map, average, maximum) = (run("none"), run("avg"), run("max"));
    for row in 0..2 {
        let map = map[row].as_ref().unwrap();
        assert_eq!(map.len(), 16 * 12 * 8);
        let channel = |c: usize| map.iter().skip(c).step_by(8).copied();
        let averages: Vec<f32> = (0..8).map(|c| channel(c).sum::<f32>() / 192.0).collect();
        let maxima: Vec<f32> = (0..8).map(|c| channel(c).fold(f32::MIN, f32::max)).collect();
        assert_close(average[row].as_ref().unwrap(), &averages);
        assert_close(maximum[row].as_ref().unwrap(), &maxima);
    }
}

#[test]
fn several_tasks_are_one_run() {
    load_tensorflow();
    let batch = structs(&[picture(0), b"no picture".to_vec(), picture(2)]);
    let alone = |task: &str, pooling: &str, top_k: &str| {
        let options = with(with(model_options(&tiny(), task), "pooling", pooling), "topK", top_k);
        Model::open(&options).unwrap().run(&batch).unwrap().column(0).clone()
    };
    let tasks = model_options(&tiny(), "topK,features,predictions,features,topK");
    let model = Model::open(&with(with(tasks, "pooling", "avg,max"), "topK", "1,3")).unwrap();
    let all = model.run(&batch).unwrap();
    assert_eq!(all.num_columns(), 6);
    assert_eq!(all.schema().field(5).name(), "error");
    let expected = [
        alone("topK", "avg", "1"),
        alone("features", "avg", "1"),
        alone("predictions", "avg", "1"),
        alone("features", "max", "1"),
        alone("topK", "avg", "3"),
    ];
    for (index, expected) in expected.iter().enumerate() {
        assert_eq!(all.column(index), expected, "column {index}");
    }
    let metrics = model.metrics();
    assert_eq!((metrics.rows, metrics.invalid_rows, metrics.native_calls), (3, 1, 1));
    // Two pieces of at most two rows each: what several tasks ask for is no run more.
    assert_eq!(metrics.session_runs, 2);
    let few = Model::open(&with(model_options(&tiny(), "features,features"), "pooling", "avg")).unwrap_err();
    assert!(few.message().contains("a value for each task that reads it"), "{}", few.message());
}

#[test]
fn bad_rows_are_null_with_a_reason_and_take_no_slot() {
    let good: Vec<Vec<u8>> = (0..7).map(picture).collect();
    let model = open("predictions");
    let alone = vectors(&model.run(&structs(&good)).unwrap());
    let before = model.metrics();
    // Wrong sizes of data at rows 0, 3 and 8.
    let mut mixed = vec![vec![1, 2, 3]];
    mixed.extend_from_slice(&good[..2]);
    mixed.push(Vec::new());
    mixed.extend_from_slice(&good[2..6]);
    mixed.push(vec![0; 5]);
    mixed.push(good[6].clone());
    let back = model.run(&structs(&mixed)).unwrap();
    let found = vectors(&back);
    let reasons = back.column(1).as_string::<i32>();
    let mut good_rows = alone.iter();
    for (row, values) in found.iter().enumerate() {
        let bad = [0, 3, 8].contains(&row);
        assert_eq!(values.is_none(), bad, "row {row}");
        assert_eq!(reasons.is_valid(row), bad, "row {row}");
        match values {
            Some(values) => assert_close(values, good_rows.next().unwrap().as_ref().unwrap()),
            None => assert!(!reasons.value(row).is_empty()),
        }
    }
    let after = model.metrics();
    assert_eq!((after.rows - before.rows, after.invalid_rows - before.invalid_rows), (10, 3));
    assert_eq!(after.native_calls - before.native_calls, 1);
    assert!(after.session_runs > before.session_runs && after.run_nanos > before.run_nanos);
}

#[test]
fn no_row_and_only_bad_rows_come_back_as_such() {
    let model = open("predictions");
    assert_eq!(model.run(&files(&[])).unwrap().num_rows(), 0);
    let back = model.run(&files(&[Some(b"no picture"), None])).unwrap();
    assert_eq!((back.num_rows(), back.column(0).null_count()), (2, 2));
    assert_eq!(model.metrics().session_runs, 0);
}

#[test]
fn one_by_one_or_all_at_once_gives_the_same() {
    let pictures: Vec<Vec<u8>> = (0..64).map(picture).collect();
    let model = open("predictions");
    let together = model.run(&structs(&pictures)).unwrap();
    assert_eq!(together, model.run(&structs(&pictures)).unwrap(), "a second run must be bit-equal");
    for (row, values) in vectors(&together).iter().enumerate() {
        let alone = vectors(&model.run(&structs(&pictures[row..=row])).unwrap());
        assert_close(values.as_ref().unwrap(), alone[0].as_ref().unwrap());
    }
}

#[test]
fn top_k_is_sorted_and_labelled_by_class() {
    let batch = structs(&[picture(0), vec![9]]);
    let scores = vectors(&open("predictions").run(&batch).unwrap())[0].clone().unwrap();
    let back = open("topK").run(&batch).unwrap();
    let list = back.column(0).as_list::<i32>();
    assert!(list.is_valid(0) && list.is_null(1));
    let items = list.value(0);
    let items = items.as_struct();
    let classes = items.column_by_name("class").unwrap().as_string::<i32>();
    let probabilities = items.column_by_name("probability").unwrap().as_primitive::<Float32Type>();
    assert_eq!(items.len(), 3);
    let mut order: Vec<usize> = (0..4).collect();
    order.sort_by(|a, b| scores[*b].total_cmp(&scores[*a]));
    for (place, class) in order.iter().take(3).enumerate() {
        assert_eq!(classes.value(place), format!("c{class}"));
        assert_close(&[probabilities.value(place)], &[scores[*class]]);
    }
}

#[test]
fn labels_must_be_one_for_each_class() {
    load_tensorflow();
    let options = model_options(&tiny(), "topK");
    let error = Model::open(&with(options.clone(), "labels", r#"["a","b"]"#)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    assert!(error.message().starts_with("The param labels are 2 but the bundle"), "{error}");
    assert!(error.message().ends_with("has 4 classes: give one for each."), "{error}");
    let error = Model::open(&with(options.clone(), "labels", "{}")).unwrap_err();
    assert!(error.message().contains("JSON array of strings or of [class, description] pairs"), "{error}");
    assert!(Model::open(&with(options, "labels", r#"["a","b","c","d"]"#)).is_ok());
}

#[test]
fn a_cancelled_handle_says_so_and_others_go_on() {
    let (one, other) = (open("predictions"), open("predictions"));
    one.cancel();
    let error = one.run(&structs(&[picture(0)])).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Cancelled);
    assert!(other.run(&structs(&[picture(0)])).is_ok());
}

#[test]
fn many_threads_get_the_same_answers() {
    let pictures: Vec<Vec<u8>> = (0..21).map(picture).collect();
    let batch = structs(&pictures);
    let expected = open("features").run(&batch).unwrap();
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8)
            .map(|_| {
                scope.spawn(|| (0..20).map(|_| open("features").run(&batch).unwrap()).collect::<Vec<_>>())
            })
            .collect();
        for thread in threads {
            for found in thread.join().unwrap() {
                assert_eq!(found, expected);
            }
        }
    });
}

#[test]
fn a_batch_of_two_columns_is_refused() {
    let batch = structs(&[picture(0)]);
    let doubled =
        RecordBatch::try_from_iter([("a", batch.column(0).clone()), ("b", batch.column(0).clone())]).unwrap();
    let error = open("predictions").run(&doubled).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidBatch);
    assert_eq!(error.message(), "A batch must have one column, of pictures, but has 2.");
}
