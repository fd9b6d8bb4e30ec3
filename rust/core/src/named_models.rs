//! The built-in models and ImageNet's labels, as data.

/// The table of built-in models, as JSON.
pub fn named_models() -> &'static str {
    include_str!("../named_models.json")
}

/// `[["n01440764", "tench"], …]`: synset and label of each of the 1,000 classes, in class order, as JSON.
pub fn imagenet_labels() -> &'static str {
    include_str!("../imagenet_labels.json")
}
