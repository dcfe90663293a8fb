//! The files of sentence-transformers: what is done with the hidden states of the transformer beside them.

use millrace_backend::{Activation, Pool};
use millrace_types::TokenId;
use millrace_weights::{HfConfig, ModelFiles, WeightsError};
use serde_json::Value;

use super::{HeadStep, Judge};
use crate::ModelError;

/// Lists the modules of a model, in order.
const MODULES: &str = "modules.json";
/// Most modules; a bound against nonsense.
const MAX_MODULES: usize = 32;

/// What the files say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sentence {
    /// How hidden states are pooled.
    pub pool: Option<Pool>,
    /// Linear layers behind the pooling.
    pub parts: Vec<Part>,
    /// The result is scaled to length 1.
    pub normalize: bool,
    /// Longest text in tokens.
    pub max_length: Option<usize>,
    /// The model writes, and its next token is the answer.
    pub judge: Option<Judge>,
}

/// A linear layer with weights of its own, in a folder of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// The folder.
    pub folder: String,
    /// Output features.
    pub out: usize,
    /// It has a bias.
    pub bias: bool,
    /// What follows it.
    pub act: Option<Activation>,
}

impl Part {
    /// Prefix of its tensors' names in a model's weights.
    pub fn prefix(folder: &str) -> String {
        format!("{folder}/")
    }

    pub(super) fn steps(self) -> impl Iterator<Item = HeadStep> {
        let module = format!("{}linear", Self::prefix(&self.folder));
        let linear = HeadStep::Linear { module, out: self.out, bias: self.bias };
        std::iter::once(linear).chain(self.act.map(HeadStep::Activation))
    }
}

impl Sentence {
    /// Reads the files of a model; `None` if they aren't there.
    ///
    /// # Errors
    /// A file can't be read, or names a module or a pooling that would change results and is not implemented.
    pub fn read(files: &ModelFiles) -> Result<Option<Self>, ModelError> {
        let Some(json) = files.read(MODULES)? else { return Ok(None) };
        let bad = |problem: String| WeightsError::BadFile { file: MODULES.into(), problem };
        let list: Value =
            serde_json::from_slice(&json).map_err(|e| bad(format!("it is not valid JSON ({e})")))?;
        let list = list.as_array().filter(|list| list.len() <= MAX_MODULES);
        let list = list.ok_or_else(|| bad(format!("it is not a list of at most {MAX_MODULES} modules")))?;
        let max_length = max_length(files)?;
        let mut sentence = Self { pool: None, parts: Vec::new(), normalize: false, max_length, judge: None };
        for module in list {
            let text = |key: &str| module.get(key).and_then(Value::as_str);
            let kind = text("type").ok_or_else(|| bad("a module has no type".into()))?;
            // A folder beside the file, and no way out of the model's own.
            let folder = text("path").unwrap_or("").trim_end_matches('/');
            if folder.contains(['/', '\\']) || folder == ".." {
                return Err(bad(format!("the module {folder:?} is not a folder of the model")).into());
            }
            match kind.rsplit('.').next().unwrap_or(kind) {
                "Transformer" => {}
                "Pooling" => sentence.pool = Some(pooling(&settings(files, folder)?)?),
                "Dense" => sentence.parts.push(dense(folder, &settings(files, folder)?)?),
                "Normalize" => sentence.normalize = true,
                "LogitScore" => sentence.judge = Some(judge(&settings(files, folder)?)?),
                other => {
                    let known = "Transformer, Pooling, Dense, Normalize and LogitScore";
                    return Err(
                        bad(format!("the module {other} is not supported; supported are {known}")).into()
                    );
                }
            }
        }
        Ok(Some(sentence))
    }
}

fn settings(files: &ModelFiles, folder: &str) -> Result<HfConfig, ModelError> {
    let name = format!("{folder}/config.json");
    let json = files.read(&name)?.ok_or_else(|| WeightsError::Missing {
        path: format!("{}/{name}", files.describe()).into(),
        hint: format!("{MODULES} names it; download or copy the missing file"),
    })?;
    Ok(HfConfig::parse(&name, &json)?)
}

/// `max_seq_length` of the file that describes the transformer.
fn max_length(files: &ModelFiles) -> Result<Option<usize>, ModelError> {
    const FILE: &str = "sentence_bert_config.json";
    let Some(json) = files.read(FILE)? else { return Ok(None) };
    Ok(HfConfig::parse(FILE, &json)?.opt_usize("max_seq_length")?.filter(|length| *length > 0))
}

/// One pooling: the word of newer files, or the only flag that is set in older ones.
fn pooling(config: &HfConfig) -> Result<Pool, ModelError> {
    if let Some(mode) = config.opt_str("pooling_mode")? {
        return match mode {
            "cls" => Ok(Pool::First),
            "mean" => Ok(Pool::Mean),
            "mean_sqrt_len_tokens" => Ok(Pool::MeanSqrtLen),
            "max" => Ok(Pool::Max),
            "lasttoken" => Ok(Pool::Last),
            other => Err(config.error("pooling_mode", format!("{other:?} is not supported")).into()),
        };
    }
    let mut chosen = Vec::new();
    for (key, pool) in [
        ("pooling_mode_cls_token", Pool::First),
        ("pooling_mode_mean_tokens", Pool::Mean),
        ("pooling_mode_mean_sqrt_len_tokens", Pool::MeanSqrtLen),
        ("pooling_mode_max_tokens", Pool::Max),
        ("pooling_mode_lasttoken", Pool::Last),
    ] {
        if config.opt_bool(key)?.unwrap_or(false) {
            chosen.push(pool);
        }
    }
    if config.opt_bool("pooling_mode_weightedmean_tokens")?.unwrap_or(false) || chosen.len() > 1 {
        let problem = "one of cls, mean, mean_sqrt_len, max and lasttoken has to be set, and no other";
        return Err(config.error("pooling_mode", problem).into());
    }
    // sentence-transformers takes the mean where nothing is set.
    Ok(chosen.first().copied().unwrap_or(Pool::Mean))
}

/// The tokens of a cross-encoder that writes its answer.
fn judge(config: &HfConfig) -> Result<Judge, ModelError> {
    let token = |key: &str| {
        let id = config.opt_usize(key)?.and_then(|id| TokenId::try_from(id).ok());
        id.ok_or_else(|| {
            ModelError::from(
                config.error(key, "must be a token id; scores of one token alone are not supported"),
            )
        })
    };
    Ok(Judge { yes: token("true_token_id")?, no: token("false_token_id")? })
}

fn dense(folder: &str, config: &HfConfig) -> Result<Part, ModelError> {
    let function = config.opt_str("activation_function")?.unwrap_or("Tanh");
    let act = match function.rsplit('.').next() {
        Some("Identity") => None,
        Some("Tanh") => Some(Activation::Tanh),
        Some("ReLU") => Some(Activation::Relu),
        Some("GELU") => Some(Activation::Gelu),
        Some("SiLU") => Some(Activation::Silu),
        _ => {
            let problem =
                format!("{function:?} is not supported; supported are Identity, Tanh, ReLU, GELU, SiLU");
            return Err(config.error("activation_function", problem).into());
        }
    };
    let out = super::super::common::within(config, "out_features", None, super::super::common::MAX_WIDTH)?;
    Ok(Part { folder: folder.to_owned(), out, bias: config.opt_bool("bias")?.unwrap_or(true), act })
}
