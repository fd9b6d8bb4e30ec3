//! Pictures per second through the core alone: `throughput BUNDLE FOLDER [CALLERS] [BATCH] [THREADS] [PASSES]`.
//!
//! Reads the JPEG files of FOLDER into memory, then runs them through the bundle's predictions, CALLERS threads side by
//! side as Spark's tasks would, BATCH rows a call, at most THREADS threads a call (0: all). The first pass is warm-up.
//! Finds TensorFlow by `SPARKDL_TENSORFLOW_PATH`, else in the Python of `SPARKDL_PYTHON`, else in `python3`.
#![allow(clippy::print_stdout)]

use std::error::Error;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use arrow::array::{ArrayRef, BinaryArray, RecordBatch};
use sparkdl_core::{Metrics, Model, runtime};

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

fn main() -> Outcome<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [bundle, folder, numbers @ ..] = arguments.as_slice() else {
        return Err("usage: throughput BUNDLE FOLDER [CALLERS] [BATCH] [THREADS] [PASSES]".into());
    };
    let number = |index: usize, default: usize| numbers.get(index).map_or(Ok(default), |text| text.parse());
    let (callers, batch) = (number(0, 2)?.max(1), number(1, 32)?.max(1));
    let (threads, passes) = (number(2, 0)?, number(3, 3)?.max(1));

    let tensorflow = runtime::load(&runtime_options()).map_err(|e| e.report())?;
    let model = Model::open(&model_options(bundle, threads)).map_err(|e| e.report())?;
    let batches = batches(Path::new(folder), batch)?;
    let pictures: usize = batches.iter().map(RecordBatch::num_rows).sum();
    println!(
        "TensorFlow {}, {callers} callers, batch {batch}, threads {threads}, {pictures} pictures",
        tensorflow.version
    );
    for pass in 0..=passes {
        let (before, began) = (model.metrics(), Instant::now());
        run(&model, &batches, callers)?;
        let (seconds, after) = (began.elapsed().as_secs_f64(), model.metrics());
        report(pass, pictures as f64 / seconds, &before, &after);
    }
    Ok(())
}

fn report(pass: usize, rate: f64, before: &Metrics, after: &Metrics) {
    let millis = |nanos: u64| nanos as f64 / 1e6 / (after.rows - before.rows).max(1) as f64;
    println!(
        "{} {rate:7.1} pictures/s, {} session runs, {} invalid, {:.2} ms decode and {:.2} ms run a picture",
        if pass == 0 { "warm-up" } else { "pass   " },
        after.session_runs - before.session_runs,
        after.invalid_rows - before.invalid_rows,
        millis(after.decode_nanos - before.decode_nanos),
        millis(after.run_nanos - before.run_nanos),
    );
}

fn run(model: &Model, batches: &[RecordBatch], callers: usize) -> Outcome<()> {
    let next = AtomicUsize::new(0);
    let caller = || -> Outcome<()> {
        while let Some(batch) = batches.get(next.fetch_add(1, Ordering::Relaxed)) {
            model.run(batch).map_err(|e| e.report())?;
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..callers).map(|_| scope.spawn(caller)).collect();
        threads.into_iter().try_for_each(|thread| thread.join().map_err(|_| "a caller panicked")?)
    })
}

fn batches(folder: &Path, rows: usize) -> Outcome<Vec<RecordBatch>> {
    let mut paths: Vec<_> =
        std::fs::read_dir(folder)?.map(|entry| entry.map(|e| e.path())).collect::<Result<_, _>>()?;
    paths.retain(|path| path.extension().is_some_and(|end| end == "jpg" || end == "jpeg"));
    paths.sort();
    if paths.is_empty() {
        return Err(format!("no .jpg in {}", folder.display()).into());
    }
    let files: Vec<Vec<u8>> = paths.iter().map(std::fs::read).collect::<Result<_, _>>()?;
    let batch = |files: &[Vec<u8>]| {
        let column: ArrayRef = Arc::new(BinaryArray::from_iter_values(files));
        RecordBatch::try_from_iter([("content", column)])
    };
    Ok(files.chunks(rows).map(batch).collect::<Result<_, _>>()?)
}

fn runtime_options() -> Vec<(String, String)> {
    let variable = |name: &str| std::env::var(name).unwrap_or_default();
    let python = match variable("SPARKDL_PYTHON") {
        none if none.is_empty() => "python3".to_owned(),
        python => python,
    };
    let path = variable("SPARKDL_TENSORFLOW_PATH");
    pairs(&[("tensorflowPath", &path), ("tensorflowClasspath", ""), ("python", &python)])
}

fn model_options(bundle: &str, threads: usize) -> Vec<(String, String)> {
    pairs(&[
        ("model", bundle),
        ("task", "predictions"),
        ("pooling", "avg"),
        ("topK", "5"),
        ("labels", ""),
        ("scaleHint", "SCALE_AREA_AVERAGING"),
        ("resizeMode", "stretch"),
        ("maxPixels", "89478485"),
        ("applyExifOrientation", "false"),
        ("fastDecode", "false"),
        ("threads", &threads.to_string()),
    ])
}

fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}
