"""Columns are classed by tag, name and type."""

from __future__ import annotations

import pytest

from enforcement.gateway import classes


@pytest.mark.parametrize(
    ("column", "type_name", "expected"),
    [
        ("email", "text", "email"), ("customer_email", "varchar(255)", "email"), ("eMailAddress", "text", "email"),
        ("emails", "text[]", "email"), ("email2", "citext", "email"), ("correo_electronico", "text", "email"),
        ("E-Mail-Adresse", "text", "email"), ("email_hash", "bytea", "email"), ("email_lower", "text", "email"),
        ("phone", "text", "phone"), ("mobile_number", "bigint", "phone"), ("Telefonnummer", "text", "phone"),
        ("phone_home", "text", "phone"), ("teléfono", "text", "phone"),
        ("first_name", "text", "person_name"), ("lastName", "text", "person_name"), ("Vorname", "text", "person_name"),
        ("prénom", "text", "person_name"), ("apellidos", "text", "person_name"), ("förnamn", "text", "person_name"),
        ("billing_address", "text", "address"), ("addressLine1", "text", "address"), ("straße", "text", "address"),
        ("zip", "integer", "address"), ("postal_code", "varchar(10)", "address"), ("addresses", "jsonb", "address"),
        ("dob", "date", "date_of_birth"), ("dateOfBirth", "date", "date_of_birth"), ("birthdate", "text", "date_of_birth"),
        ("Geburtsdatum", "date", "date_of_birth"), ("fecha_nacimiento", "timestamp", "date_of_birth"),
        ("ssn", "char(11)", "national_id"), ("passport_no", "text", "national_id"), ("codice_fiscale", "text", "national_id"),
        ("tax_id", "text", "national_id"), ("personnummer", "text", "national_id"), ("bsn", "integer", "national_id"),
        ("iban", "text", "iban"), ("refund_iban", "text", "iban"),
        ("card_number", "text", "card"), ("creditCard", "text", "card"), ("pan", "bigint", "card"), ("cvv2", "text", "card"),
        ("account_number", "text", "bank_account"), ("Kontonummer", "text", "bank_account"),
        ("password_hash", "text", "secret"), ("hashed_password", "text", "secret"), ("api_key", "text", "secret"),
        ("access_token", "text", "secret"), ("tokens", "jsonb", "secret"), ("clientSecret", "text", "secret"),
        ("private_key", "bytea", "secret"), ("session_token", "uuid", "secret"), ("Passwort", "text", "secret"),
        ("diagnosis", "text", "health"), ("blood_type", "text", "health"), ("medications", "jsonb", "health"),
        ("religion", "text", "special_category"), ("salary", "numeric(10,2)", "pay"),
        ("last_login_ip", "inet", "ip_address"), ("ip_address", "text", "ip_address"), ("seen_from", "inet", "ip_address"),
        ("latitude", "double precision", "location"), ("home_geo", "geography(Point,4326)", "location"),
        ("notes", "text", "free_text"), ("internal_comment", "text", "free_text"),
    ],
)  # fmt: skip
def test_a_column_is_classed_by_name_and_type(column: str, type_name: str, expected: str) -> None:
    assert classes.classify("public", "things", column, type_name, ()) == (expected,)


@pytest.mark.parametrize(
    ("column", "type_name"),
    [
        ("email_sent_at", "timestamptz"), ("email_verified", "boolean"), ("email", "boolean"), ("email_count", "integer"),
        ("email_template", "text"), ("email_id", "bigint"), ("phone_model", "text"), ("is_mobile", "boolean"),
        ("address_id", "bigint"), ("mac_address", "text"), ("wallet_address", "text"), ("token_count", "integer"),
        ("tokens", "integer"), ("token_expires_at", "timestamptz"), ("password_changed_at", "timestamptz"),
        ("password_reset_required", "boolean"), ("key", "text"), ("secret_santa", "boolean"), ("card_type", "text"),
        ("pin_count", "integer"), ("account_id", "bigint"), ("account_name", "text"), ("file_name", "text"),
        ("hostname", "text"), ("company_name", "text"), ("product_name", "text"), ("health_check_url", "text"),
        ("description", "text"), ("iban_valid", "boolean"), ("birth_country_id", "integer"), ("next_token", "text"),
        ("network", "cidr"), ("lat_updated_at", "timestamp with time zone"), ("notes_count", "integer"), ("company", "text"),
        ("", "text"), ("漢字", "text"), ("12", "text"), ("tells", "text"), ("mailing_list", "text"), ("zip_file", "bytea"),
    ],
)  # fmt: skip
def test_false_friends_have_no_class(column: str, type_name: str) -> None:
    assert classes.classify("public", "things", column, type_name, ()) == ()


@pytest.mark.parametrize("relation", ["customers", "crm_contacts", "user_profiles", "Mitarbeiter", "clientes"])
def test_name_alone_is_a_persons_in_a_table_of_people(relation: str) -> None:
    assert classes.classify("public", relation, "name", "text", ()) == ("person_name",)


@pytest.mark.parametrize("relation", ["products", "user_roles", "customer_segments", "countries", "", "accounts"])
def test_name_alone_is_nobodys_in_any_other_table(relation: str) -> None:
    assert classes.classify("public", relation, "name", "text", ()) == ()


def test_a_tag_comes_before_the_name() -> None:
    assert classes.classify("public", "products", "name", "text", ("trade_secret", "pay")) == ("pay", "trade_secret")
    assert classes.classify("public", "customers", "email", "text", ("none",)) == ()


def test_every_class_has_words_and_types_and_names() -> None:
    assert set(classes.CLASSES) == set(classes._HELD) == set(classes._NAMES)
