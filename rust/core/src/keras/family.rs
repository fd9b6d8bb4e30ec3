//! The networks of the table: how Keras builds them, and which models are of their family.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Cursor;

use serde::Deserialize;
use serde_json::Value;

use super::config;
use crate::named_models::named_models;
use crate::{Error, ErrorKind, Result};

/// How Keras builds the networks of the table, as `tests/fixtures/make_named_models.py` writes it.
const NETWORKS: &[u8] = include_bytes!("../../networks.zip");

/// Layers that are tried as the feature layer: NASNetLarge has 300 of one class, in a hostile file each takes its time.
const MAX_ALIKE: usize = 512;

/// What the table says of a network.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Row {
    pub(super) name: String,
    pub(super) height: usize,
    pub(super) width: usize,
    pub(super) channel_order: String,
    pub(super) normalization: String,
    pub(super) feature_layer: String,
    /// How many layers of each class the features depend on.
    layers: BTreeMap<String, usize>,
    weights: Published,
    pub(super) published_rescaling: Option<Vec<f32>>,
    pub(super) license: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Published {
    no_top: NoTop,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct NoTop {
    #[serde(default)]
    layers_behind_features: usize,
}

#[derive(Deserialize)]
struct Table {
    models: Vec<Row>,
}

impl Row {
    /// The row of a name.
    pub(super) fn of(name: &str) -> Result<Row> {
        let table: Table = serde_json::from_str(named_models()).map_err(|e| {
            Error::new(ErrorKind::Internal, "The table of models cannot be read.").with_source(e)
        })?;
        let known: Vec<String> = table.models.iter().map(|row| row.name.clone()).collect();
        table.models.into_iter().find(|row| row.name == name).ok_or_else(|| {
            let known = known.join(", ");
            Error::new(ErrorKind::InvalidArgument, format!("There is no model {name:?}; there are {known}."))
        })
    }

    /// The configuration of the network, as Keras builds it.
    pub(super) fn network(&self) -> Result<Value> {
        fn broken(cause: impl std::error::Error + Send + Sync + 'static) -> Error {
            Error::new(ErrorKind::Internal, "The networks of the table cannot be read.").with_source(cause)
        }
        let mut networks = zip::ZipArchive::new(Cursor::new(NETWORKS)).map_err(broken)?;
        let member = networks.by_name(&format!("{}.json", self.name)).map_err(broken)?;
        serde_json::from_reader(member).map_err(broken)
    }

    /// Layers with weights that a file without the classifier has behind the features.
    pub(super) fn layers_behind_features(&self) -> usize {
        self.weights.no_top.layers_behind_features
    }

    /// The layer of a model that is this family's feature layer, if there is one.
    ///
    /// Keras names layers without a name of their own by their class and a number that it counts in each process, so of
    /// those the one counts that has the same layers before it.
    pub(super) fn feature_layer_of(&self, model: &Value) -> Option<String> {
        let counted = without_number(&self.feature_layer);
        let mut alike: Vec<&str> = config::layers(model)
            .filter(|(name, class)| without_number(name) == counted && config::snake_case(class) == counted)
            .map(|(name, _)| name)
            .collect();
        if alike.is_empty() {
            let mut named = config::layers(model).map(|(name, _)| name);
            return named.find(|name| *name == self.feature_layer).map(str::to_owned);
        }
        // In most models it is the last or near to it.
        alike.reverse();
        let fitting = alike.iter().take(MAX_ALIKE).find(|name| self.difference(model, name).is_none());
        fitting.or(alike.first()).map(|name| (*name).to_owned())
    }

    /// What tells a model up to its layer `layer` from the family: VGG19 is no VGG16.
    pub(super) fn difference(&self, model: &Value, layer: &str) -> Option<String> {
        let counts = config::classes_before(model, layer);
        let classes: BTreeSet<&String> = self.layers.keys().chain(counts.keys()).collect();
        classes.into_iter().find_map(|class| {
            let count = |counts: &BTreeMap<String, usize>| counts.get(class).copied().unwrap_or(0);
            let (found, expected) = (count(&counts), count(&self.layers));
            // Keras adds one where its published weights want it.
            let published = class == "Rescaling" && found == expected + 1;
            let name = &self.name;
            (found != expected && !published).then(|| {
                format!("it is no {name}: up to {layer} it has {found} layers {class}, {name} has {expected}")
            })
        })
    }
}

/// `activation_187` → `activation`.
fn without_number(name: &str) -> &str {
    match name.rsplit_once('_') {
        Some((start, number)) if !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()) => start,
        _ => name,
    }
}
