//! The labels of a classifier, and how its scores are scaled.

use millrace_weights::HfConfig;
use serde_json::Value;

use crate::ModelError;

/// Most labels of a model; a bound against nonsense.
const MAX_LABELS: usize = 1 << 16;

/// What a classifier tells apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Labels {
    /// In the order of the scores; at least one.
    pub names: Vec<String>,
    /// What becomes of the scores.
    pub scale: ScoreScale,
}

/// How a classifier's outputs become scores.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ScoreScale {
    /// They are left as they are.
    Raw,
    /// Each for itself, to 0..1.
    Sigmoid,
    /// Together, to a sum of 1.
    Softmax,
}

impl Labels {
    /// Reads `id2label`, or `num_labels`; two labels where neither is there, as in transformers. The scale is the one
    /// that sentence-transformers wrote down, or follows from `problem_type`, or from the number of labels.
    pub(super) fn read(config: &HfConfig) -> Result<Self, ModelError> {
        let names = names(config)?;
        let scale = match told(config)? {
            Some(scale) => scale,
            None if names.len() == 1 => ScoreScale::Sigmoid,
            None => ScoreScale::Softmax,
        };
        Ok(Self { names, scale })
    }
}

fn names(config: &HfConfig) -> Result<Vec<String>, ModelError> {
    let default = |id: usize| format!("LABEL_{id}");
    let Some(map) = config.object("id2label")? else {
        let count = config.opt_usize("num_labels")?.unwrap_or(2);
        check(config, "num_labels", count)?;
        return Ok((0..count).map(default).collect());
    };
    let count = map.keys().count();
    check(config, "id2label", count)?;
    let name = |id: usize| match map.value(&id.to_string()) {
        Some(Value::String(name)) => Ok(name.clone()),
        _ => Err(config
            .error("id2label", format!("has {count} entries and must have a text for \"{id}\""))
            .into()),
    };
    (0..count).map(name).collect()
}

fn check(config: &HfConfig, key: &str, count: usize) -> Result<(), ModelError> {
    match count {
        1..=MAX_LABELS => Ok(()),
        _ => Err(config.error(key, format!("has {count} labels; 1 to {MAX_LABELS} are possible")).into()),
    }
}

fn told(config: &HfConfig) -> Result<Option<ScoreScale>, ModelError> {
    let sentence = config.object("sentence_transformers")?;
    let function = match &sentence {
        Some(sentence) => sentence.opt_str("activation_fn")?,
        None => config.opt_str("sbert_ce_default_activation_function")?,
    };
    if let Some(function) = function {
        return match function.rsplit('.').next() {
            Some("Identity") => Ok(Some(ScoreScale::Raw)),
            Some("Sigmoid") => Ok(Some(ScoreScale::Sigmoid)),
            _ => {
                let problem = format!("is {function:?}; supported are Identity and Sigmoid");
                Err(config.error("sentence_transformers.activation_fn", problem).into())
            }
        };
    }
    Ok(match config.opt_str("problem_type")? {
        Some("regression") => Some(ScoreScale::Raw),
        Some("multi_label_classification") => Some(ScoreScale::Sigmoid),
        Some("single_label_classification") => Some(ScoreScale::Softmax),
        _ => None,
    })
}

impl ScoreScale {
    /// Scales one row of outputs, in place.
    pub fn apply(self, row: &mut [f32]) {
        match self {
            Self::Raw => {}
            Self::Sigmoid => row.iter_mut().for_each(|x| *x = 1.0 / (1.0 + (-*x).exp())),
            Self::Softmax => {
                let max = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
                row.iter_mut().for_each(|x| *x = (*x - max).exp());
                let sum: f32 = row.iter().sum();
                row.iter_mut().for_each(|x| *x /= sum);
            }
        }
    }
}
