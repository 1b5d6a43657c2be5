set client_encoding='SQL_ASCII';
select 'café ÿ';
