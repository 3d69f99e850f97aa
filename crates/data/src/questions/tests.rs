use super::*;

fn read_as(name: &str, text: &str, form: AnswerForm) -> Result<QuestionSet, DataError> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    fs_err::write(&path, text).unwrap();
    QuestionSource { address: name, path, files: None, layout: None, form }.read()
}

fn choices(text: &str) -> QuestionSet {
    read_as("questions.jsonl", text, AnswerForm::Choices).unwrap()
}

fn choice(question: &Question) -> &MultipleChoice {
    match &question.answer {
        Answer::Choice(choice) => choice,
        Answer::Text(text) => panic!("{text}"),
    }
}

#[test]
fn mmlu_lists_its_choices_in_the_prompt() {
    let set = choices(
        r#"{"question": "Which number is even? ", "subject": "school_maths", "choices": ["3", "4", "5"], "answer": 1}"#,
    );
    assert_eq!(set.layout, QuestionLayout::Mmlu);
    let [question] = set.questions.as_slice() else { panic!() };
    assert_eq!(question.prompt, "Which number is even?\nA. 3\nB. 4\nC. 5\nAnswer:");
    assert_eq!(
        question.description.as_deref(),
        Some("The following are multiple choice questions (with answers) about school maths.\n\n")
    );
    let expected =
        MultipleChoice { choices: ["A", "B", "C"].map(String::from).to_vec(), key: AnswerKey::One(1) };
    assert_eq!((choice(question), question.right_answer()), (&expected, "B"));
    assert_eq!(question.subject.as_deref(), Some("school_maths"));
}

#[test]
fn arc_names_the_answer_by_letters_or_digits() {
    let set = choices(concat!(
        r#"{"id": "a", "question": "What melts?", "choices": {"text": ["ice", "stone"], "label": ["A", "B"]}, "answerKey": "A"}"#,
        "\n",
        r#"{"id": "b", "question": "What barks?", "choices": {"text": ["cat", "dog"], "label": ["1", "2"]}, "answerKey": "2"}"#,
        "\n",
        r#"{"id": "c", "question": "What sings?", "choices": {"text": ["cat", "bird"], "label": ["1", "2"]}, "answerKey": "B"}"#,
    ));
    assert_eq!((set.layout, set.rows), (QuestionLayout::Arc, 3));
    let found: Vec<_> =
        set.questions.iter().map(|question| (question.prompt.as_str(), question.right_answer())).collect();
    assert_eq!(found, [("Question: What melts?\nAnswer:", "ice"), ("Question: What barks?\nAnswer:", "dog")]);
    assert_eq!(set.rejected, [("bad_value".to_owned(), 1)].into());
}

#[test]
fn hellaswag_is_cleaned_as_by_lm_evaluation_harness() {
    let set = choices(concat!(
        r#"{"activity_label": "Baking", "ctx_a": "[header] How to bake [title] Heat the oven.", "ctx_b": "THE dough", "ctx": "x", "#,
        r#""endings": ["rises  well.", "[step] sings."], "label": "0"}"#,
        "\n",
        r#"{"activity_label": "Baking", "ctx": "The dough", "endings": ["rises.", "sings."], "label": ""}"#,
        "\n",
        r#"{"activity_label": "Baking", "ctx": "The dough", "endings": ["rises.", "sings."], "label": 1}"#,
    ));
    assert_eq!(set.layout, QuestionLayout::HellaSwag);
    let [first, second] = set.questions.as_slice() else { panic!() };
    assert_eq!(first.prompt, "Baking:  How to bake. Heat the oven. The dough".replace("  ", " "));
    assert_eq!(
        (choice(first).choices.as_slice(), first.right_answer()),
        (["rises well.", " sings."].map(String::from).as_slice(), "rises well.")
    );
    assert_eq!((second.prompt.as_str(), second.right_answer()), ("Baking: The dough", "sings."));
    assert_eq!(set.rejected, [("no_answer".to_owned(), 1)].into());
}

#[test]
fn truthfulqa_has_two_sets_of_choices() {
    let set = choices(concat!(
        r#"{"question": "Is glass a liquid?", "mc1_targets": {"choices": ["No", "Yes"], "labels": [1, 0]}, "#,
        r#""mc2_targets": {"choices": ["No", "It is solid", "Yes"], "labels": [1, 1, 0]}}"#,
    ));
    assert_eq!(set.layout, QuestionLayout::TruthfulQa);
    let [question] = set.questions.as_slice() else { panic!() };
    assert_eq!((question.prompt.as_str(), question.right_answer()), ("Q: Is glass a liquid?\nA:", "No"));
    let of = |choice, is_true| LabelledChoice { choice, is_true };
    let key = AnswerKey::Labelled {
        mc1: vec![of(0, true), of(1, false)],
        mc2: vec![of(0, true), of(2, true), of(1, false)],
    };
    let choices = ["No", "Yes", "It is solid"].map(String::from).to_vec();
    assert_eq!(choice(question), &MultipleChoice { choices, key });
}

#[test]
fn rows_of_ones_own_name_the_answer_by_index_letter_or_text() {
    let row = |answer: &str| {
        format!(r#"{{"question": "Which?", "choices": ["red", "blue", "B"], "answer": {answer}}}"#)
    };
    for (answer, right) in [("1", "blue"), ("\"A\"", "red"), ("\"blue\"", "blue"), ("\"C\"", "B")] {
        let set = choices(&row(answer));
        assert_eq!(
            (set.layout, set.questions[0].right_answer()),
            (QuestionLayout::Choices, right),
            "{answer}"
        );
    }
    // The letter of one choice and the text of another.
    for (answer, reason) in [
        ("\"B\"", "names several"),
        ("3", "names none"),
        ("\"1\"", "names none"),
        ("-1", "no_answer"),
        ("null", "missing"),
    ] {
        let error = read_as("q.jsonl", &row(answer), AnswerForm::Choices).unwrap_err().to_string();
        assert!(
            error.contains("no usable question in 1 rows (layout choices)") && error.contains(reason),
            "{error}"
        );
    }
}

#[test]
fn questions_with_a_text_as_answer_are_read() {
    let text = "{\"question\": \"1 + 1?\", \"answer\": \"One and one make two.\\n#### 2\"}\n{\"question\": \"2 + 2?\", \"answer\": 4}\n";
    let set = read_as("gsm.jsonl", text, AnswerForm::Text).unwrap();
    let found: Vec<_> =
        set.questions.iter().map(|question| (question.prompt.as_str(), question.right_answer())).collect();
    assert_eq!(
        found,
        [("Question: 1 + 1?\nAnswer:", "One and one make two.\n#### 2"), ("Question: 2 + 2?\nAnswer:", "4")]
    );
    let error = read_as("gsm.jsonl", text, AnswerForm::Choices).unwrap_err().to_string();
    assert!(error.ends_with("the questions have no choices; use `evaluate.exact`"), "{error}");
}

#[test]
fn copies_have_ids_of_their_own_and_share_their_text() {
    let row = "{\"question\": \"Which?\", \"choices\": [\"a\", \"b\"], \"answer\": 0}\n";
    let set = choices(&row.repeat(3));
    let ids: Vec<_> =
        set.questions.iter().map(|question| question.id.split_once('#').map(|(_, copy)| copy)).collect();
    assert_eq!(ids, [None, Some("2"), Some("3")]);
    assert!(set.questions.iter().all(|question| question.text_id == set.questions[0].text_id));
}

#[test]
fn test_files_of_a_folder_are_read() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["train", "test", "validation"] {
        let row = format!("{{\"question\": \"{name}?\", \"choices\": [\"a\", \"b\"], \"answer\": 0}}\n");
        fs_err::write(folder.path().join(format!("{name}-00000-of-00001.jsonl")), row).unwrap();
    }
    let read = |files: Option<&[String]>| {
        let (path, form) = (folder.path().to_owned(), AnswerForm::Choices);
        let set = QuestionSource { address: "here", path, files, layout: None, form }.read()?;
        Ok::<_, DataError>(set.questions.into_iter().map(|question| question.prompt).collect::<Vec<_>>())
    };
    assert_eq!(read(None).unwrap(), ["Question: test?\nAnswer:"]);
    assert_eq!(read(Some(&["train-*".to_owned()])).unwrap(), ["Question: train?\nAnswer:"]);
    let error = read(Some(&["dev-*".to_owned()])).unwrap_err().to_string();
    assert!(error.contains("no matching data file"), "{error}");
    // Sets without training files, such as single subjects of MMLU.
    fs_err::remove_file(folder.path().join("train-00000-of-00001.jsonl")).unwrap();
    assert_eq!(read(None).unwrap(), ["Question: test?\nAnswer:"]);
    fs_err::remove_file(folder.path().join("test-00000-of-00001.jsonl")).unwrap();
    assert_eq!(read(None).unwrap(), ["Question: validation?\nAnswer:"]);
}

#[test]
fn other_files_are_refused_with_their_columns() {
    let error =
        read_as("x.jsonl", "{\"prompt\": \"a\", \"completion\": \"b\"}\n", AnswerForm::Choices).unwrap_err();
    assert!(
        error.to_string().contains("cannot detect the layout of the questions (keys prompt, completion)"),
        "{error}"
    );
    let error = read_as("x.jsonl", "", AnswerForm::Choices).unwrap_err();
    assert!(error.to_string().contains("(no record)"), "{error}");
}
