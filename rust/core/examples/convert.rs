//! Converts a Keras file to a bundle: `convert FILE OUTPUT MODEL-NAME`.
#![allow(clippy::print_stderr)]

fn main() -> std::process::ExitCode {
    let given: Vec<String> = std::env::args().skip(1).collect();
    let pairs = ["file", "output", "modelName"].into_iter().map(str::to_owned).zip(given);
    let rest = [("published", "false"), ("featureLayer", ""), ("inputSize", "")];
    let pairs = pairs.chain(rest.map(|(key, value)| (key.to_owned(), value.to_owned())));
    match sparkdl_core::keras::convert(&pairs.collect::<Vec<_>>()) {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{}", error.report());
            std::process::ExitCode::FAILURE
        }
    }
}
