//! Rerankers that write: a decoder is asked whether a document answers a query, and its next token is the answer
//! (Qwen3-Reranker and its like).

use millrace_backend::Pool;
use millrace_types::TokenId;
use millrace_weights::HfConfig;

use super::super::ModelSpec;
use super::{EncoderNames, EncoderSpec, HeadStep, Labels, PoolingSpec, PoolingTask, ScoreScale};
use crate::ModelError;

/// The tokens of the two answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Judge {
    /// It does.
    pub yes: TokenId,
    /// It doesn't.
    pub no: TokenId,
}

impl Judge {
    /// Reads `classifier_from_token`, a text for no and one for yes, as vLLM has it; `token` finds a text's token.
    /// `None` if the configuration doesn't name them.
    ///
    /// # Errors
    /// It isn't two texts that are one token each, or another method of scoring is asked for.
    pub fn read(
        config: &HfConfig,
        token: impl Fn(&str) -> Option<TokenId>,
    ) -> Result<Option<Self>, ModelError> {
        const KEY: &str = "classifier_from_token";
        let Some(texts) = config.opt_list(KEY)? else { return Ok(None) };
        let two = || ModelError::from(config.error(KEY, "must be two texts, one for no and one for yes"));
        let [no, yes] = texts else { return Err(two()) };
        let find = |text: &serde_json::Value| {
            let text = text.as_str().ok_or_else(two)?;
            token(text).ok_or_else(|| {
                ModelError::from(config.error(KEY, format!("has {text:?}, which is no token of this model")))
            })
        };
        match config.opt_str("method")?.unwrap_or("from_2_way_softmax") {
            "from_2_way_softmax" => Ok(Some(Self { yes: find(yes)?, no: find(no)? })),
            other => {
                let problem = format!("is {other:?}; supported is from_2_way_softmax");
                Err(config.error("method", problem).into())
            }
        }
    }
}

impl PoolingSpec {
    /// A decoder that judges. Its score is the probability of yes, where there is only yes and no: the sigmoid of the
    /// difference of their logits at the last token.
    ///
    /// # Errors
    /// `config.json` has no token with such an id.
    pub fn judging_decoder(spec: &ModelSpec, judge: Judge, config: &HfConfig) -> Result<Self, ModelError> {
        let unknown = [judge.yes, judge.no].into_iter().find(|token| *token as usize >= spec.vocab);
        if let Some(token) = unknown {
            let problem = format!("is {}, and the model's answer would be token {token}", spec.vocab);
            return Err(config.error("vocab_size", problem).into());
        }
        let module = if spec.tied_head { EncoderNames::DECODER.embedding } else { spec.names.head };
        Ok(Self {
            body: EncoderSpec::of_decoder(spec),
            pool: Pool::Last,
            head: vec![HeadStep::Contrast { module, plus: judge.yes, minus: judge.no }],
            task: PoolingTask::Classify(Labels {
                names: vec!["LABEL_0".to_owned()],
                scale: ScoreScale::Sigmoid,
            }),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Result<Option<Judge>, String> {
        let config = HfConfig::parse("config.json", json.as_bytes()).unwrap();
        Judge::read(&config, |text| ["no", "yes"].iter().position(|known| *known == text)?.try_into().ok())
            .map_err(|error| error.to_string())
    }

    #[test]
    fn answers_are_two_tokens() {
        assert_eq!(read("{}"), Ok(None));
        assert_eq!(read(r#"{"classifier_from_token": ["no", "yes"]}"#), Ok(Some(Judge { yes: 1, no: 0 })));
        for (json, problem) in [
            (r#"{"classifier_from_token": ["no"]}"#, "must be two texts"),
            (r#"{"classifier_from_token": ["no", 3]}"#, "must be two texts"),
            (r#"{"classifier_from_token": ["no", "maybe"]}"#, "no token of this model"),
            (
                r#"{"classifier_from_token": ["no", "yes"], "method": "no_post_processing"}"#,
                "supported is from_2_way_softmax",
            ),
        ] {
            let error = read(json).unwrap_err();
            assert!(error.contains(problem), "{json}: {error}");
        }
    }
}
