use super::*;

const USER: ChatMessage<'static> = ChatMessage { role: "user", content: "hi" };

fn template(source: &str) -> ChatTemplate {
    with_tokens(source, &["<s>", "</s>"])
}

/// Compiles a template for a tokenizer of bytes with these special tokens; the last one is
/// the end-of-sequence token.
fn with_tokens(source: &str, tokens: &[&str]) -> ChatTemplate {
    let tokenizer = Tokenizer::bytes_with(tokens, tokens.last().unwrap()).unwrap();
    let bos = tokens.iter().find(|token| **token == "<s>" || **token == "<bos>");
    let variables = bos.map(|token| ("bos_token".to_owned(), (*token).to_owned())).into_iter().collect();
    ChatTemplate::new(source, &tokenizer, variables).unwrap()
}

/// Renders a template of expressions only.
fn rendered(source: &str) -> String {
    template(source).render(&[USER], false).unwrap()
}

#[test]
fn chatml_has_one_end_marker() {
    let template = ChatTemplate::chatml(&Tokenizer::bytes().unwrap()).unwrap();
    let prompt = template.prompt(&[USER]).unwrap();
    assert_eq!(prompt, "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n");
    assert_eq!(template.conversation(&[USER], "yo").unwrap(), format!("{prompt}yo<|im_end|>"));
    assert_eq!(
        template.accepted_turns(),
        AcceptedTurns { system: true, repeated: true, assistant_first: true }
    );
}

#[test]
fn a_template_without_end_marker_gets_one() {
    let source = "{{ bos_token }}{% for m in messages %}{{ m['role'].upper() }}: {{ m['content'].strip() }}\n{% endfor %}{% if add_generation_prompt %}ASSISTANT:{% endif %}";
    let template = template(source);
    assert_eq!(template.prompt(&[USER]).unwrap(), "<s>USER: hi\nASSISTANT:");
    assert_eq!(template.conversation(&[USER], "yo").unwrap(), "<s>USER: hi\nASSISTANT: yo</s>");
    assert_eq!(template.end_marker().token, "</s>");
}

#[test]
fn the_end_marker_is_what_follows_a_completion() {
    let llama2 = "{% for m in messages %}{% if m.role == 'user' %}{{ bos_token + '[INST] ' + m.content + ' [/INST]' }}{% else %}{{ ' ' + m.content + ' ' + eos_token }}{% endif %}{% endfor %}";
    let template = with_tokens(llama2, &["<s>", "</s>"]);
    assert_eq!(template.conversation(&[USER], "yo").unwrap(), "<s>[INST] hi [/INST] yo </s>");
    assert_eq!(
        (template.end_marker().text.as_str(), template.end_marker().token.as_str()),
        (" </s>", "</s>")
    );

    // Writes the end-of-sequence token after the last turn, in addition to the turn's own end.
    let phi = "{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}<|end|>\n{% endfor %}{% if add_generation_prompt %}<|assistant|>\n{% else %}{{ eos_token }}{% endif %}";
    let template = with_tokens(phi, &["<|user|>", "<|assistant|>", "<|end|>", "<|endoftext|>"]);
    assert_eq!(
        template.conversation(&[USER], "yo").unwrap(),
        "<|user|>\nhi<|end|>\n<|assistant|>\nyo<|end|>"
    );

    // The last turn ends with a token of its own.
    let last = "{% for m in messages %}<|start|>{{ m.role }}<|message|>{{ m.content }}{% if loop.last and m.role == 'assistant' %}<|return|>{% else %}<|end|>{% endif %}{% endfor %}{% if add_generation_prompt %}<|start|>assistant{% endif %}";
    let template = with_tokens(last, &["<|start|>", "<|message|>", "<|return|>", "<|end|>", "</s>"]);
    assert_eq!(template.end_marker().token, "<|return|>");

    // Turns end with another token than the end-of-sequence token.
    let chatml = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";
    let template = with_tokens(chatml, &["<|im_start|>", "<|im_end|>", "<|endoftext|>"]);
    assert_eq!(template.end_marker().text, "<|im_end|>");
    // Without such a token, the end-of-sequence token takes the place of that text.
    let template = with_tokens(chatml, &["<|endoftext|>"]);
    let text = template.conversation(&[USER], "yo").unwrap();
    assert!(text.ends_with("<|im_start|>assistant\nyo<|endoftext|>"), "{text}");
}

#[test]
fn the_header_of_the_next_turn_is_not_part_of_a_completion() {
    let always = "{{ bos_token }}{% for m in messages %}<|start|>{{ m.role }}<|header|>\n\n{{ m.content | trim }}<|eot|>{% endfor %}{{ '<|start|>assistant<|header|>\n\n' }}";
    let template = with_tokens(always, &["<s>", "<|start|>", "<|header|>", "<|eot|>"]);
    let prompt = template.prompt(&[USER]).unwrap();
    // A completion that the header contains.
    for completion in ["yo", "assistant"] {
        let text = template.conversation(&[USER], completion).unwrap();
        assert_eq!(text, format!("{prompt}{completion}<|eot|>"));
    }
    // Without an end of turns, the header is no end either.
    let bare = "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}{% endfor %}<|assistant|>";
    let template = with_tokens(bare, &["<|user|>", "<|assistant|>", "</s>"]);
    assert_eq!(template.conversation(&[USER], "yo").unwrap(), "<|user|>hi<|assistant|>yo</s>");
}

#[test]
fn a_prompt_may_be_rendered_differently_before_a_completion() {
    // The system turn precedes the last message, so a completion would remove it.
    let last = "{% for m in messages %}{% if m.role == 'user' %}[INST] {% if loop.last and messages[0].role == 'system' %}{{ messages[0].content }}\n\n{% endif %}{{ m.content }} [/INST]{% elif m.role == 'assistant' %} {{ m.content }}{{ eos_token }}{% endif %}{% endfor %}";
    let template = template(last);
    let turns = [ChatMessage { role: "system", content: "short" }, USER];
    assert_eq!(template.conversation(&turns, "yo").unwrap(), "[INST] short\n\nhi [/INST] yo</s>");
    let prompt = template.prompt(&turns).unwrap();
    assert!(template.completion(&turns, &prompt, "yo").unwrap().apart);
    assert!(!template.completion(&[USER], "[INST] hi [/INST]", "yo").unwrap().apart);
}

#[test]
fn refusals_and_omissions_are_found() {
    let strict = "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no system turns') }}{% endif %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('roles must alternate') }}{% endif %}{{ m.content }}{% endfor %}";
    let template = template(strict);
    let none = AcceptedTurns { system: false, repeated: false, assistant_first: false };
    assert_eq!(template.accepted_turns(), none);
    let error = template.prompt(&[USER, USER]).unwrap_err().to_string();
    assert!(error.contains("roles must alternate"), "{error}");
    let silent = "{% for m in messages if m.role != 'system' %}{{ m.content }}{% endfor %}";
    assert!(!super::tests::template(silent).accepted_turns().system);
    let tokenizer = Tokenizer::bytes().unwrap();
    assert!(ChatTemplate::new("{% if %}", &tokenizer, BTreeMap::new()).is_err());
}

#[test]
fn a_completion_in_other_words_is_noticed() {
    let template =
        template("{% for m in messages %}{{ m.content.split('</think>')[-1] }}{{ eos_token }}{% endfor %}");
    let rewritten = |completion: &str| template.completion(&[USER], "hi</s>", completion).unwrap().rewritten;
    assert!(rewritten("<think>a</think>b") && !rewritten("b"));
}

#[test]
fn endless_templates_end_in_an_error_within_a_second() {
    let loops = "{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}";
    let long = "{% set ns = namespace(t='x') %}{% for a in range(60) %}{% set ns.t = ns.t ~ ns.t %}{% endfor %}{{ ns.t }}";
    let nested = "{% set ns = namespace(t=[1]) %}{% for a in range(60) %}{% set ns.t = [ns.t, ns.t] %}{% endfor %}{{ ns.t | tojson }}";
    let deep = "{% macro m(n) %}{{ m(n + 1) }}{% endmacro %}{{ m(0) }}";
    for source in [loops, long, nested] {
        let started = std::time::Instant::now();
        let error = ChatTemplate::new(source, &Tokenizer::bytes().unwrap(), BTreeMap::new());
        let error = error.and_then(|template| template.prompt(&[USER])).unwrap_err();
        assert!(started.elapsed().as_secs_f64() < 5.0, "{source}: {:?}", started.elapsed());
        assert!(!error.to_string().is_empty(), "{source}");
    }
    assert!(template(deep).prompt(&[USER]).is_err());
}

#[test]
fn variables_are_those_of_transformers() {
    assert_eq!(rendered("{{ tools is none and documents is none and not add_generation_prompt }}"), "True");
    assert_eq!(rendered("{{ strftime_now('%d %b %Y') }}"), "26 Jul 2024");
    assert_eq!(
        rendered("{{ tools is iterable }} {{ 'a' is iterable }} {{ [] is iterable }}"),
        "False True True"
    );
    assert_eq!(rendered("{% if strftime_now is defined %}yes{% endif %}"), "yes");
    assert_eq!(rendered("{{ bos_token }}{{ eos_token }}{{ unknown }}"), "<s></s>");
}

#[test]
fn tojson_is_that_of_python() {
    for (expression, expected) in [
        (
            "{'a': [1, 2.0, none, true], 'é<': \"it's\"} | tojson",
            r#"{"a": [1, 2.0, null, true], "é<": "it's"}"#,
        ),
        ("'é' | tojson(ensure_ascii=true)", r#""\u00e9""#),
        ("{'b': 1, 'a': 2} | tojson(sort_keys=true, separators=(',', ':'))", r#"{"a":2,"b":1}"#),
        ("{'b': [1, []]} | tojson(indent=2)", "{\n  \"b\": [\n    1,\n    []\n  ]\n}"),
        ("[0.00001, 1e16, 0.1, -2.5e-7] | tojson", "[1e-05, 1e+16, 0.1, -2.5e-07]"),
        ("messages[0] | tojson", r#"{"role": "user", "content": "hi"}"#),
    ] {
        assert_eq!(rendered(&format!("{{{{ {expression} }}}}")), expected, "{expression}");
    }
    assert!(template("{{ missing | tojson }}").render(&[USER], false).is_err());
}

#[test]
fn values_print_as_in_python() {
    for (expression, expected) in [
        ("true", "True"),
        ("none", "None"),
        ("1.0", "1.0"),
        ("['a', \"it's\", none]", "['a', \"it's\", None]"),
        ("{'a': false}", "{'a': False}"),
        ("(1, 'b')", "(1, 'b')"),
        ("true | string", "True"),
    ] {
        assert_eq!(rendered(&format!("{{{{ {expression} }}}}")), expected, "{expression}");
    }
}

#[test]
fn python_methods_work() {
    for (expression, expected) in [
        ("'a</think>b'.split('</think>')[-1].strip()", "b"),
        ("'a-b-c'.rsplit('-', 1)", "['a-b', 'c']"),
        ("' a  b '.rsplit()", "['a', 'b']"),
        ("'a=b=c'.partition('=')[2]", "b=c"),
        ("'a=b=c'.rpartition('=')[0]", "a=b"),
        ("'prefix'.removeprefix('pre') ~ 'x.y'.removesuffix('.y')", "fixx"),
        ("'a\\r\\nb\\rc'.splitlines()", "['a', 'b', 'c']"),
        ("'7'.zfill(3) ~ 'x'.ljust(2) ~ '|' ~ 'x'.rjust(2, '.') ~ 'ab'.center(5, '*')", "007x |.x**ab*"),
        ("'aXb'.swapcase() ~ 'é'.index('é')", "AxB0"),
        ("{'a': 1}.get('b', 2) ~ {'a': 1}.copy().a ~ [1, 5].index(5)", "211"),
        ("'Hi'.lower().startswith('h') and 'x' in 'xyz'", "True"),
    ] {
        assert_eq!(rendered(&format!("{{{{ {expression} }}}}")), expected, "{expression}");
    }
}

#[test]
fn blocks_are_those_of_transformers() {
    for (source, expected) in [
        (
            "{% for m in messages %}\n  {% generation %}\n{{ m.content }}\n  {% endgeneration %}\n{% endfor %}",
            "hi\n",
        ),
        (
            "{% for i in range(9) %}{% if i == 2 %}{% continue %}{% endif %}{% if i == 4 %}{% break %}{% endif %}{{ i }}{% endfor %}",
            "013",
        ),
        (
            "{% set ns = namespace(n=0) %}{% for i in range(3) %}{% set ns.n = ns.n + i %}{% endfor %}{{ ns.n }}",
            "3",
        ),
        (
            "{% macro turn(m, end='!') -%}\n  {{ m.content }}{{ end }}\n{%- endmacro %}{{ turn(messages[0]) }}{{ turn(messages[0], end='?') }}",
            "hi!hi?",
        ),
        ("  {% if true %}\n    a\n  {% endif %}\nb\n", "    a\nb"),
        ("{% set x %}a{% endset %}{{ x }}{{ messages[::-1][0].role }}", "auser"),
    ] {
        assert_eq!(rendered(source), expected, "{source}");
    }
}
